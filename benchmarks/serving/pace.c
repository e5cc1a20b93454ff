/* Sends one HTTP/1.1 request at a constant rate over a number of kept connections, and says how long the answers took.
 *
 *     pace PORT REQUEST_FILE RATE SECONDS CONNECTIONS PATIENCE_SECONDS
 *
 * Open loop: request i is due at start + i / RATE, whether or not earlier ones have been answered. Latency counts from
 * the moment a request was due, not from the moment it could be sent: a server that stalls is charged for every
 * request that should have been under way meanwhile (no coordinated omission). "service" counts from the sending.
 * A request is sent on the connection that has been idle longest; if none is idle it waits for one.
 *
 * "failed" are requests whose connection ended before the answer did; those among them that met a connection which
 * the server closed for its idleness at that very moment are "stale" too (a client may send these again).
 * Answers are read by Content-Length or chunked coding, or until the connection ends. Prints one JSON document.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_LIMIT = 16384, READ_SIZE = 65536, STATUSES = 600, EVENTS = 256 };
static const int64_t SECOND = 1000000000;
enum state { CLOSED, CONNECTING, IDLE, BUSY };
enum framing { LENGTH, CHUNKED, UNTIL_CLOSE };

struct connection {
    int fd;
    enum state state;
    size_t sent;           /* bytes of the request */
    int64_t due, sent_at;  /* of the request under way, ns */
    int64_t idle_since;
    char head[HEAD_LIMIT + 1];
    size_t head_size;
    int head_done, status, closes;
    enum framing framing;
    int64_t body_left;
    char tail[5];          /* the last bytes of a chunked body */
};

struct sample {
    int64_t latency, service;
};

struct samples {
    struct sample *rows;
    size_t count, room;
};

static struct samples by_status[STATUSES];
static struct connection *connections;
static int *idle_ring, count, idle_first, idle_count, busy_count, epoll_fd, port;
static char *request;
static size_t request_size;
static uint64_t failed, stale, reconnects;
static int64_t *lags;      /* how late the generator itself was: sent - due of requests that found an idle connection */
static size_t lag_count, lag_room;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "pace: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *grown(void *rows, size_t count, size_t *room, size_t size) {
    if (count < *room) return rows;
    *room = *room ? *room * 2 : 4096;
    rows = realloc(rows, *room * size);
    if (!rows) die("memory");
    return rows;
}

static void watch(struct connection *c, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event)) die("epoll_ctl");
}

static void make_idle(struct connection *c) {
    c->state = IDLE;
    c->idle_since = now();
    idle_ring[(idle_first + idle_count++) % count] = (int)(c - connections);
}

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void forget_idle(struct connection *c) {
    int place = (int)(c - connections), i = 0;
    while (i < idle_count && idle_ring[(idle_first + i) % count] != place) i++;
    if (i == idle_count) return;
    for (idle_count--; i < idle_count; i++)
        idle_ring[(idle_first + i) % count] = idle_ring[(idle_first + i + 1) % count];
}

/* The connection has ended; what it carried is lost unless `lost` is 0. */
static void end_connection(struct connection *c, int lost) {
    if (c->state == IDLE) forget_idle(c);
    if (c->state == BUSY) {
        busy_count--;
        failed += (uint64_t)lost;
        stale += (uint64_t)(lost && !c->head_size && c->sent_at - c->idle_since > SECOND);
    }
    close(c->fd);
    reconnects++;
    open_connection(c);
}

static void write_request(struct connection *c) {
    while (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
                return;
            }
            end_connection(c, 1);
            return;
        }
        c->sent += (size_t)n;
        if (c->sent == request_size && c->sent > (size_t)n) watch(c, EPOLLIN, EPOLL_CTL_MOD);
    }
}

static void begin(struct connection *c, int64_t due, int64_t at) {
    c->state = BUSY;
    busy_count++;
    c->due = due;
    c->sent_at = at;
    c->sent = c->head_size = 0;
    c->head_done = 0;
    write_request(c);
}

static void record(struct connection *c) {
    struct samples *s = &by_status[c->status];
    int64_t at = now();
    s->rows = grown(s->rows, s->count, &s->room, sizeof *s->rows);
    s->rows[s->count].latency = at - c->due;
    s->rows[s->count++].service = at - c->sent_at;
}

static void finish(struct connection *c) {
    record(c);
    if (c->closes) {
        end_connection(c, 0);
        return;
    }
    busy_count--;
    make_idle(c);
}

static const char *header(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) : NULL;
}

/* Status and framing of the head in c->head; -1 if it is none. */
static int read_head(struct connection *c) {
    const char *value;
    if (strncmp(c->head, "HTTP/1.", 7) || c->head_size < 13) return -1;
    c->status = atoi(c->head + 9);
    if (c->status < 100 || c->status >= STATUSES) return -1;
    value = header(c->head, "\r\nconnection:");
    c->closes = value && !strncasecmp(value + strspn(value, " "), "close", 5);
    if ((value = header(c->head, "\r\ncontent-length:"))) {
        c->framing = LENGTH;
        c->body_left = atoll(value);
    } else if (header(c->head, "\r\ntransfer-encoding:")) {
        c->framing = CHUNKED;
        memset(c->tail, 0, sizeof c->tail);
    } else {
        c->framing = UNTIL_CLOSE;
        c->closes = 1;
    }
    return 0;
}

/* Whether the body is complete. A chunked one ends with an empty chunk; the bodies here contain no such bytes. */
static int read_body(struct connection *c, const char *data, size_t size) {
    if (c->framing == LENGTH) return (c->body_left -= (int64_t)size) <= 0;
    if (c->framing == CHUNKED) {
        for (size_t i = size > 5 ? size - 5 : 0; i < size; i++) {
            memmove(c->tail, c->tail + 1, 4);
            c->tail[4] = data[i];
        }
        return !memcmp(c->tail, "0\r\n\r\n", 5);
    }
    return 0;
}

/* Takes what has arrived; 1 when the answer is complete, -1 when it makes no sense. */
static int take(struct connection *c, const char *data, size_t size) {
    char *end;
    size_t room, before, head;
    if (c->head_done) return read_body(c, data, size);
    before = c->head_size;
    room = HEAD_LIMIT - before;
    if (size < room) room = size;
    memcpy(c->head + before, data, room);
    c->head_size += room;
    c->head[c->head_size] = 0;
    end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
    if (!end) return c->head_size == HEAD_LIMIT ? -1 : 0;
    head = (size_t)(end - c->head) + 4;
    end[2] = 0;
    if (read_head(c)) return -1;
    c->head_done = 1;
    return read_body(c, data + (head - before), size - (head - before));
}

static void readable(struct connection *c) {
    static char buffer[READ_SIZE];
    for (;;) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            int whole = c->state == BUSY && c->head_done && c->framing == UNTIL_CLOSE && n == 0;
            if (whole) record(c);
            end_connection(c, !whole);
            return;
        }
        if (c->state != BUSY) {
            end_connection(c, 0);
            return;
        }
        int done = take(c, buffer, (size_t)n);
        if (done < 0) {
            end_connection(c, 1);
            return;
        }
        if (done) {
            finish(c);
            return;
        }
        if ((size_t)n < sizeof buffer) return;
    }
}

static void handle(struct connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errno = error;
            die("connect");
        }
        if (!(events & EPOLLOUT)) return;
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        make_idle(c);
        return;
    }
    if (events & EPOLLOUT && c->state == BUSY && c->sent < request_size) {
        int fd = c->fd;
        write_request(c);
        if (c->fd != fd || c->state != BUSY) return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

static void wait_until(int timer, int64_t at) {
    struct epoll_event events[EVENTS];
    struct itimerspec when = {.it_value = {.tv_sec = at / SECOND, .tv_nsec = at % SECOND}};
    uint64_t ticks;
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL)) die("timerfd_settime");
    int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
        if (events[i].data.ptr)
            handle(events[i].data.ptr, events[i].events);
        else if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
            die("timer");
    }
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_quantiles(const char *name, int64_t *values, size_t count) {
    static const struct {
        const char *name;
        double q;
    } wanted[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    qsort(values, count, sizeof *values, compare);
    printf("\"%s\": {", name);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && count; i++) {
        size_t place = (size_t)(wanted[i].q * (double)count);
        if (place >= count) place = count - 1;
        printf("%s\"%s\": %.1f", i ? ", " : "", wanted[i].name, (double)values[place] / 1000);
    }
    printf("}");
}

static void print_status(int status, int first) {
    struct samples *s = &by_status[status];
    int64_t *column = malloc(s->count * sizeof *column);
    if (!column) die("memory");
    printf("%s\"%d\": {\"count\": %zu, ", first ? "" : ", ", status, s->count);
    for (size_t i = 0; i < s->count; i++) column[i] = s->rows[i].latency;
    print_quantiles("latency_us", column, s->count);
    printf(", ");
    for (size_t i = 0; i < s->count; i++) column[i] = s->rows[i].service;
    print_quantiles("service_us", column, s->count);
    printf("}");
    free(column);
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    request_size = (size_t)ftell(file);
    rewind(file);
    request = malloc(request_size);
    if (!request || fread(request, 1, request_size, file) != request_size) die(path);
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: pace PORT REQUEST_FILE RATE SECONDS CONNECTIONS PATIENCE_SECONDS\n");
        return 2;
    }
    port = atoi(argv[1]);
    read_request(argv[2]);
    double rate = atof(argv[3]), seconds = atof(argv[4]), patience = atof(argv[6]);
    count = atoi(argv[5]);
    uint64_t total = (uint64_t)(rate * seconds), next = 0;
    if (!(rate > 0) || count < 1 || !total) {
        fprintf(stderr, "pace: nothing to send\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0 || timer < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event)) die("epoll");
    connections = calloc((size_t)count, sizeof *connections);
    idle_ring = calloc((size_t)count, sizeof *idle_ring);
    if (!connections || !idle_ring) die("memory");

    int64_t limit = now() + 10 * SECOND;
    for (int i = 0; i < count; i++) open_connection(&connections[i]);
    while (idle_count < count && now() < limit) wait_until(timer, limit);
    reconnects = 0;

    int64_t start = now() + 1000000, end = start + (int64_t)(seconds * 1e9), at = now();
    uint64_t waited = 0;
    int starved = 0;
    while (next < total && at < end) {
        int64_t due = start + (int64_t)((double)next * 1e9 / rate);
        at = now();
        if (due <= at && idle_count) {
            struct connection *c = &connections[idle_ring[idle_first]];
            idle_first = (idle_first + 1) % count;
            idle_count--;
            if (starved) {
                waited++;
            } else {
                lags = grown(lags, lag_count, &lag_room, sizeof *lags);
                lags[lag_count++] = at - due;
            }
            next++;
            begin(c, due, at);
            continue;
        }
        starved = due <= at; /* until the schedule has been caught up with */
        /* Without an idle connection only an answer helps. */
        wait_until(timer, idle_count && due < end ? due : end);
        at = now();
    }
    limit = now() + (int64_t)(patience * 1e9);
    while (busy_count && now() < limit) wait_until(timer, limit);

    uint64_t due_by_end = (uint64_t)((double)(at - start) / 1e9 * rate);
    if (due_by_end > total) due_by_end = total;
    printf("{\"rate\": %.1f, \"seconds\": %.3f, \"sent\": %llu, \"unsent\": %llu, \"waited\": %llu, \"failed\": %llu, "
           "\"stale\": %llu, \"unanswered\": %d, \"reconnects\": %llu, ",
           rate, (double)(at - start) / 1e9, (unsigned long long)next,
           (unsigned long long)(due_by_end > next ? due_by_end - next : 0), (unsigned long long)waited,
           (unsigned long long)failed, (unsigned long long)stale, busy_count, (unsigned long long)reconnects);
    print_quantiles("lag_us", lags, lag_count);
    printf(", \"statuses\": {");
    int first = 1;
    for (int status = 0; status < STATUSES; status++)
        if (by_status[status].count) {
            print_status(status, first);
            first = 0;
        }
    printf("}}\n");
    return 0;
}
