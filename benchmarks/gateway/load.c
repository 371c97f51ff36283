// Load client for OpenAI's chat completions, plain and streamed, in one epoll loop. Linux.
//
//   load PORT REQUEST key=value...      prints one line of JSON
//
// REQUEST is a file that holds a whole HTTP request; each run of eight `#` in it becomes the request's number.
// connections=N seconds=S    closed loop: each connection asks again as soon as it has its answer; its first one isn't timed
// rate=R                     open loop: a request each 1/R s, timed from the moment when it was due
// total=N                    ends after N requests; ramp=S: the connections begin spread over S seconds
// chunks=N                   a stream of N chunks whose content is "@<CLOCK_MONOTONIC in ns>@", then [DONE]; else a plain answer with usage
// limit=S                    an answer that takes longer is an error
// Only whole answers count: status 200, the framing's end, usage or all chunks and [DONE]. What was sent in `seconds` is waited for.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define IN 65536
#define TEXT 32768
#define SWEEP 20000000LL // ns between looks for late answers
typedef long long ns;
typedef struct { unsigned *at; size_t n, room; } List; // microseconds
enum { DOWN, CONNECTING, IDLE, BUSY };
enum { CONNECT, STATUS, CUT, INCOMPLETE, LATE, KINDS };
static const char *const kinds[KINDS] = {"connect", "status", "cut", "incomplete", "timeout"};

typedef struct {
  int fd, state, headed, chunked, closes, status, blocked, chunks, done, answers;
  long left;                 // bytes left of the body or of its HTTP chunk; -1: unknown
  ns start, again;           // `again`: not before this moment after a failure
  size_t have, size, at;     // in `in`; in `text`; sent of the request
  char *out;
  char in[IN], text[TEXT + 1];
} Conn;

static int ep, port, connections = 1, chunks_wanted, inflight;
static long issued, total = -1, ok, chunks_seen, errors[KINDS];
static double rate, seconds = 1, ramp, limit = 30;
static ns begun, last;
static char *request; static size_t request_size, marks[8], marked;
static List latency, first, lag;
static Conn **conns;
static char complaint[400];

static ns clock_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static ns from_seconds(double s) { return (ns)(s * 1e9); }

static void keep(List *l, ns value) {
  if (l->n == l->room) l->at = realloc(l->at, (l->room = l->room ? 2 * l->room : 4096) * sizeof *l->at);
  l->at[l->n++] = value < 0 ? 0 : value / 1000;
}

// -- starting requests -------------------------------------------------------------------------------------------------

static void watch(Conn *c, int blocked, int how) {
  struct epoll_event e = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c};
  if (how == EPOLL_CTL_ADD || c->blocked != blocked) epoll_ctl(ep, how, c->fd, &e);
  c->blocked = blocked;
}

static void down(Conn *c, ns again) {
  if (c->state != DOWN) close(c->fd);
  if (c->state == BUSY || c->state == CONNECTING) inflight--;
  c->state = DOWN;
  c->again = again;
}

static void fail(Conn *c, int kind) {
  errors[kind]++;
  if (!*complaint) {
    int size = c->size < 300 ? c->size : 300;
    snprintf(complaint, sizeof complaint, "%s %d: %.*s", kinds[kind], c->status, size, c->text);
  }
  down(c, clock_now() + 10000000LL);
}

static void transmit(Conn *c) {
  while (c->at < request_size) {
    ssize_t n = send(c->fd, c->out + c->at, request_size - c->at, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { watch(c, 1, EPOLL_CTL_MOD); return; }
    if (n < 0) { fail(c, CUT); return; }
    c->at += n;
  }
  watch(c, 0, EPOLL_CTL_MOD);
}

static void begin(Conn *c, ns start) {
  char number[24];
  snprintf(number, sizeof number, "%08ld", issued++ % 100000000);
  for (size_t i = 0; i < marked; i++) memcpy(c->out + marks[i], number, 8);
  c->start = start;
  c->at = c->have = c->size = c->headed = c->chunks = c->done = c->status = 0;
  inflight++;
  if (c->state == IDLE) { c->state = BUSY; transmit(c); return; }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  c->state = CONNECTING;
  watch(c, 1, EPOLL_CTL_ADD);
  if (connect(c->fd, (void *)&address, sizeof address) && errno != EINPROGRESS) fail(c, CONNECT);
}

static int over(ns now) { return (total >= 0 && issued >= total) || now >= begun + from_seconds(seconds); }
static ns due(long number) { return begun + (ns)(number * 1e9 / rate); }

static void start_all(ns now) { // what may start now
  if (over(now)) return;
  double share = ramp ? (now - begun) / (ramp * 1e9) : 1;
  int most = share >= 1 ? connections : (int)(connections * share) + 1;
  for (int i = 0; i < most && !over(now) && (!rate || due(issued) <= now); i++) {
    Conn *c = conns[i];
    if ((c->state == IDLE || c->state == DOWN) && c->again <= now) begin(c, rate ? due(issued) : now);
  }
}

// -- reading answers ---------------------------------------------------------------------------------------------------

static void finish(Conn *c) {
  ns now = clock_now();
  if (c->status != 200) { fail(c, STATUS); return; }
  if (chunks_wanted ? !c->done || c->chunks != chunks_wanted : !memmem(c->text, c->size, "\"usage\"", 7)) { fail(c, INCOMPLETE); return; }
  ok++;
  last = now;
  if (c->answers++ || rate || total >= 0) keep(&latency, now - c->start);
  if (c->closes) { down(c, 0); }
  else { c->state = IDLE; inflight--; }
  if (!rate && !over(now)) begin(c, now);
  else if (rate && !over(now) && due(issued) <= now) begin(c, due(issued));
}

static void event(Conn *c, const char *line, size_t size, ns now) {
  if (size >= 12 && !memcmp(line, "data: [DONE]", 12)) { c->done = 1; return; }
  const char *stop = line + size, *mark = line;
  while ((mark = memchr(mark, '@', stop - mark))) { // a gateway may have put several chunks into one
    ns sent = 0;
    const char *digit = ++mark;
    while (digit < stop && *digit >= '0' && *digit <= '9') sent = 10 * sent + (*digit++ - '0');
    if (digit - mark < 12 || digit == stop || *digit != '@') continue;
    keep(&lag, now - sent);
    if (!c->chunks++ && (c->answers || rate || total >= 0)) keep(&first, now - c->start);
    chunks_seen++;
    mark = digit + 1;
  }
}

static void feed(Conn *c, const char *data, size_t size, ns now) {
  if (size > TEXT - c->size) size = TEXT - c->size; // longer than any right answer
  memcpy(c->text + c->size, data, size);
  c->size += size;
  if (!chunks_wanted || c->status != 200) return;
  char *line = c->text, *stop = c->text + c->size;
  for (char *end; (end = memchr(line, '\n', stop - line)); line = end + 1) event(c, line, end - line, now);
  memmove(c->text, line, c->size = stop - line);
}

static int head(Conn *c) { // bytes of the head, 0 while it isn't whole
  char *stop = memmem(c->in, c->have, "\r\n\r\n", 4);
  if (!stop) return 0;
  c->headed = 1; c->chunked = 0; c->closes = 0; c->left = -1;
  c->status = c->have > 12 ? atoi(c->in + 9) : 0;
  for (char *line = c->in; line < stop; line = (char *)memchr(line, '\n', stop + 2 - line) + 1) {
    if (!strncasecmp(line, "content-length:", 15)) c->left = atol(line + 15);
    if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->chunked = 1;
    if (!strncasecmp(line, "connection: close", 17)) c->closes = 1;
  }
  return stop - c->in + 4;
}

static int parse(Conn *c, ns now) { // 1: the answer has ended
  size_t at = 0;
  if (!c->headed && !(at = head(c))) return 0;
  int ended = !c->chunked && !c->left;
  while (at < c->have && !ended) {
    if (c->chunked && c->left < 0) { // the line before a chunk
      char *end = memmem(c->in + at, c->have - at, "\r\n", 2);
      if (!end) break;
      if (end == c->in + at) { at += 2; continue; } // the end of the chunk before
      c->left = strtol(c->in + at, NULL, 16);
      if (!c->left) {
        if (c->have - (end - c->in) < 4) { c->left = -1; break; } // its empty line is still to come
        ended = 1;
      }
      at = end - c->in + 2;
      continue;
    }
    size_t here = c->have - at;
    if (c->left >= 0 && here > (size_t)c->left) here = c->left;
    feed(c, c->in + at, here, now);
    at += here;
    if (c->left >= 0) c->left -= here;
    if (!c->left && c->chunked) c->left = -1;
    else if (!c->left) ended = 1;
  }
  memmove(c->in, c->in + at, c->have -= at);
  return ended;
}

static void readable(Conn *c) {
  if (c->state == CONNECTING) c->state = BUSY;
  ssize_t n = recv(c->fd, c->in + c->have, IN - c->have, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (c->state == IDLE) { down(c, 0); return; } // a kept connection that the server closes
  if (!n && c->headed && !c->chunked && c->left < 0) { c->closes = 1; finish(c); return; }
  if (n <= 0) { fail(c, c->at ? CUT : CONNECT); return; }
  c->have += n;
  if (parse(c, clock_now())) finish(c);
}

static void writable(Conn *c) {
  int error = 0;
  socklen_t size = sizeof error;
  if (c->state == CONNECTING) {
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) { fail(c, CONNECT); return; }
    c->state = BUSY;
  }
  transmit(c);
}

// -- the run -----------------------------------------------------------------------------------------------------------

static int by_size(const void *a, const void *b) { unsigned x = *(unsigned *)a, y = *(unsigned *)b; return (x > y) - (x < y); }

static void quantiles(const char *name, List *l) { // milliseconds: p50, p90, p99, most
  if (l->n) qsort(l->at, l->n, sizeof *l->at, by_size);
  printf(",\"%s\":[", name);
  double shares[] = {0.5, 0.9, 0.99, 1};
  for (int i = 0; l->n && i < 4; i++) printf("%s%.3f", i ? "," : "", l->at[(size_t)(shares[i] * (l->n - 1))] / 1e3);
  printf("]");
}

static void read_request(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) { perror(path); exit(1); }
  request = calloc(1, IN);
  request_size = fread(request, 1, IN - 1, file);
  fclose(file);
  for (char *at = request; marked < 8 && (at = strstr(at, "########")); at += 8) marks[marked++] = at - request;
}

static void options(int count, char **given) {
  for (int i = 0; i < count; i++) {
    char *value = strchr(given[i], '=');
    double number = value ? atof(value + 1) : 0;
    if (!strncmp(given[i], "connections=", 12)) connections = number;
    else if (!strncmp(given[i], "seconds=", 8)) seconds = number;
    else if (!strncmp(given[i], "rate=", 5)) rate = number;
    else if (!strncmp(given[i], "total=", 6)) total = number;
    else if (!strncmp(given[i], "ramp=", 5)) ramp = number;
    else if (!strncmp(given[i], "chunks=", 7)) chunks_wanted = number;
    else if (!strncmp(given[i], "limit=", 6)) limit = number;
    else { fprintf(stderr, "load: what is %s?\n", given[i]); exit(2); }
  }
}

static void report(void) {
  double taken = ok ? (last - begun) / 1e9 : seconds; // until the last answer: a slow server's first answers come late, too
  printf("{\"ok\":%ld,\"per_second\":%.3f,\"chunks\":%ld,\"seconds\":%.3f,\"errors\":{", ok, ok / taken, chunks_seen, taken);
  for (int i = 0; i < KINDS; i++) printf("%s\"%s\":%ld", i ? "," : "", kinds[i], errors[i]);
  printf("}");
  quantiles("latency", &latency);
  quantiles("first", &first);
  quantiles("lag", &lag);
  printf("}\n");
  if (*complaint) fprintf(stderr, "%s\n", complaint);
}

int main(int count, char **given) {
  if (count < 3) { fprintf(stderr, "load PORT REQUEST key=value...\n"); return 2; }
  port = atoi(given[1]);
  read_request(given[2]);
  options(count - 3, given + 3);
  ep = epoll_create1(EPOLL_CLOEXEC);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct epoll_event t = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
  epoll_ctl(ep, EPOLL_CTL_ADD, timer, &t);
  conns = calloc(connections, sizeof *conns);
  for (int i = 0; i < connections; i++) {
    conns[i] = calloc(1, sizeof **conns);
    conns[i]->out = malloc(request_size);
    memcpy(conns[i]->out, request, request_size);
  }
  begun = clock_now();
  ns swept = begun;
  for (start_all(begun); inflight || !over(clock_now());) {
    ns now = clock_now(), next = now + SWEEP;
    if (rate && !over(now) && due(issued) > now && due(issued) < next) next = due(issued);
    if (ramp && now < begun + from_seconds(ramp)) next = now + 1000000;
    struct itimerspec at = {.it_value = {next / 1000000000LL, next % 1000000000LL}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) {
      Conn *c = events[i].data.ptr;
      unsigned long ticks;
      if (!c) { if (read(timer, &ticks, sizeof ticks) < 0) continue; start_all(clock_now()); continue; }
      if (c->state != DOWN && events[i].events & EPOLLOUT) writable(c);
      if (c->state != DOWN && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
    if ((now = clock_now()) < swept + SWEEP) continue;
    swept = now;
    for (int i = 0; i < connections; i++)
      if (conns[i]->state >= CONNECTING && conns[i]->state != IDLE && now - conns[i]->start > from_seconds(limit)) fail(conns[i], LATE);
  }
  report();
  return 0;
}
