// Mock upstream: OpenAI's chat completions, plain and streamed, in one epoll loop. Linux.
//
//   mock            listens on a free port of 127.0.0.1 and prints it
//
// What it does is asked for in the request's text, so that no gateway has to be told:
//   mock(delay=20,chunks=50,every=100,group=1)
// delay: ms before the answer; chunks: of a stream; every: ms between them; group: chunks in one write where `every` is 0.
// Each chunk's content is "@<CLOCK_MONOTONIC in ns>@ ", taken just before the write: a client on the same machine sees its lag.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
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
#define MS 1000000LL
typedef long long ns;

typedef struct {
  int fd, blocked, busy, streaming, usage, chunks, sent, group, place; // place: in the heap, -1 outside
  ns every, due;
  size_t have, used;         // bytes in `in`, and how many of them are the request being answered
  char *out; size_t at, end, cap;
  char in[IN];
} Conn;

static int ep, timer;
static Conn **heap; static int waiting, room;
static unsigned long serial;

static ns clock_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

// -- timers: a binary heap by `due` ------------------------------------------------------------------------------------

static void put(Conn *c, int i) { heap[i] = c; c->place = i; }

static void settle(int i) {
  Conn *c = heap[i];
  for (; i && heap[(i - 1) / 2]->due > c->due; i = (i - 1) / 2) put(heap[(i - 1) / 2], i);
  for (int child; (child = 2 * i + 1) < waiting; i = child) {
    if (child + 1 < waiting && heap[child + 1]->due < heap[child]->due) child++;
    if (heap[child]->due >= c->due) break;
    put(heap[child], i);
  }
  put(c, i);
}

static void wait_until(Conn *c, ns due) {
  if (waiting == room) heap = realloc(heap, (room = room ? 2 * room : 64) * sizeof *heap);
  c->due = due;
  put(c, waiting++);
  settle(c->place);
}

static void forget(Conn *c) {
  int i = c->place;
  if (i < 0) return;
  c->place = -1;
  if (i == --waiting) return;
  put(heap[waiting], i);
  settle(i);
}

static void arm(void) {
  struct itimerspec at = {0};
  if (waiting) { at.it_value.tv_sec = heap[0]->due / 1000000000LL; at.it_value.tv_nsec = heap[0]->due % 1000000000LL; }
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

// -- writing -----------------------------------------------------------------------------------------------------------

static void drop(Conn *c) { forget(c); close(c->fd); free(c->out); free(c); }

static void append(Conn *c, const char *data, size_t size) {
  if (c->end + size > c->cap) c->out = realloc(c->out, c->cap = 2 * (c->end + size));
  memcpy(c->out + c->end, data, size);
  c->end += size;
}

static void watch(Conn *c, int blocked) {
  if (c->blocked == blocked) return;
  struct epoll_event e = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
  c->blocked = blocked;
}

static int flush(Conn *c) { // 0: the connection has gone
  while (c->at < c->end) {
    ssize_t n = send(c->fd, c->out + c->at, c->end - c->at, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { watch(c, 1); return 1; }
    if (n < 0) { drop(c); return 0; }
    c->at += n;
  }
  c->at = c->end = 0;
  watch(c, 0);
  return 1;
}

static void event(Conn *c, const char *data, int size) { // one server-sent event in one HTTP chunk
  char line[1024];
  append(c, line, sprintf(line, "%x\r\n", size));
  append(c, data, size);
  append(c, "\r\n", 2);
}

#define USAGE "{\"prompt_tokens\":112,\"completion_tokens\":50,\"total_tokens\":162,\"prompt_tokens_details\":{\"cached_tokens\":0}," \
              "\"completion_tokens_details\":{\"reasoning_tokens\":0}}"
#define CHUNK "data: {\"id\":\"chatcmpl-mock%016lx\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\"," \
              "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\",\"choices\":"

static void chunk(Conn *c) {
  char data[1024];
  const char *role = c->sent++ ? "" : "\"role\":\"assistant\",";
  int size = sprintf(data, CHUNK "[{\"index\":0,\"delta\":{%s\"content\":\"@%019lld@ \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                     serial, role, clock_now());
  event(c, data, size);
}

static void ending(Conn *c) {
  char data[1024];
  event(c, data, sprintf(data, CHUNK "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n", serial));
  if (c->usage) event(c, data, sprintf(data, CHUNK "[],\"usage\":" USAGE "}\n\n", serial));
  event(c, "data: [DONE]\n\n", 14);
  append(c, "0\r\n\r\n", 5);
}

static void plain(Conn *c) {
  char head[256], body[1024];
  int size = sprintf(body, "{\"id\":\"chatcmpl-mock%016lx\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":"
                     "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
                     "\"usage\":" USAGE ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\"}", serial,
                     "The invoice was sent twice because the job was restarted before its mark was saved.");
  append(c, head, sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", size));
  append(c, body, size);
}

static int step(Conn *c) { // what is due now; 0: the connection has gone
  if (!c->streaming) {
    plain(c);
    c->busy = 0;
    return flush(c);
  }
  if (!c->sent) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
    append(c, head, sizeof head - 1);
  }
  while (c->sent < c->chunks) {
    for (int i = 0; i < (c->every ? 1 : c->group) && c->sent < c->chunks; i++) chunk(c);
    if (c->sent == c->chunks) break;
    if (!flush(c)) return 0;
    if (c->every) { wait_until(c, c->due + c->every); return 1; }
  }
  ending(c);
  c->busy = 0;
  return flush(c);
}

// -- reading -----------------------------------------------------------------------------------------------------------

static size_t request(Conn *c) { // size of the request at the start of `in`, 0 while it isn't whole
  char *stop = memmem(c->in, c->have, "\r\n\r\n", 4);
  if (!stop) return 0;
  size_t head = stop - c->in + 4, length = 0;
  for (char *line = c->in; line < stop; line = (char *)memchr(line, '\n', stop + 2 - line) + 1) {
    if (!strncasecmp(line, "content-length:", 15)) length = atol(line + 15);
    if (!strncasecmp(line, "transfer-encoding:", 18)) { // JSON holds no CR: the first such line is the last chunk
      char *last = memmem(stop, c->have - (stop - c->in), "\r\n0\r\n\r\n", 7);
      return last ? (size_t)(last - c->in + 7) : 0;
    }
  }
  return head + length <= c->have ? head + length : 0;
}

static int is_true(const char *body, size_t size, const char *key) {
  const char *found = memmem(body, size, key, strlen(key));
  if (!found) return 0;
  for (found += strlen(key); *found == ' ' || *found == ':'; found++) {}
  return *found == 't';
}

static int serve(Conn *c) { // 0: the connection has gone
  while (!c->busy && c->have && (c->used = request(c))) {
    int delay = 0, chunks = 50, every = 0, group = 1;
    const char *asked = memmem(c->in, c->used, "mock(", 5);
    if (asked) sscanf(asked, "mock(delay=%d,chunks=%d,every=%d,group=%d)", &delay, &chunks, &every, &group);
    c->streaming = is_true(c->in, c->used, "\"stream\"");
    c->usage = is_true(c->in, c->used, "\"include_usage\"");
    c->chunks = chunks; c->group = group; c->every = every * MS; c->sent = 0; c->busy = 1;
    serial++;
    memmove(c->in, c->in + c->used, c->have -= c->used);
    c->in[c->have] = 0;
    c->due = clock_now() + delay * MS;
    if (delay) wait_until(c, c->due);
    else if (!step(c)) return 0;
  }
  return 1;
}

static void readable(Conn *c) {
  for (;;) {
    ssize_t n = recv(c->fd, c->in + c->have, IN - 1 - c->have, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { drop(c); return; }
    c->in[c->have += n] = 0;
    size_t asked = IN - 1 - (c->have - n);
    if (!serve(c)) return;
    if ((size_t)n < asked) return; // all there was
  }
}

static void arrivals(int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->place = -1;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  }
}

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (bind(listener, (void *)&address, size) || listen(listener, 4096)) { perror("mock"); return 1; }
  getsockname(listener, (void *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  ep = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, t = {.events = EPOLLIN, .data.ptr = &timer}, events[256];
  epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
  epoll_ctl(ep, EPOLL_CTL_ADD, timer, &t);
  for (;;) {
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) {
      void *what = events[i].data.ptr;
      unsigned long ticks;
      if (!what) arrivals(listener);
      else if (what == &timer) { if (read(timer, &ticks, sizeof ticks) < 0) continue; }
      else if (!(events[i].events & EPOLLOUT) || flush(what)) readable(what);
    }
    ns now = clock_now();
    while (waiting && heap[0]->due <= now) {
      Conn *c = heap[0];
      forget(c);
      if (step(c) && !c->busy) serve(c); // a request that came meanwhile
    }
    arm();
  }
}
