"""Where state is kept between requests."""
