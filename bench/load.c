/* Sends mail to a relay on loopback as fast as it takes it, and says how long each message took. JSON on stdout.

   load port=2525 messages=5000 [run=1] [first=0]     so many messages that get their 250, under numbers from first on
        connections=50 each=1                         in parallel; messages over one connection (1: one for each)
        size=5120 recipients=1 domains=1              octets; r0@d0.bench.example, r1@d1...: domains taken in turn
        pipeline=0 tls=0 pause=0                      RFC 2920; STARTTLS on every connection; ms between two messages
        idle=0 idle_tls=0                             connections that are opened before and say nothing but EHLO; with
                                                      messages=0 they are held until stdin ends, a line says when they stand
        errors=100 timeout=60                         as many failures, or seconds, end the run before its time
        acked=FILE                                    one octet a number: 1 where 250 was heard

   A number is used once, whatever becomes of it, so the sink can tell what was lost and what came twice. The content
   carries it with the time when it was sent: "X-Bench: RUN-NUMBER-MICROSECONDS". Does not own: the judgement (judge.py). */
#include "wire.h"

enum state { OFF, GREETING, EHLO, STARTTLS, HANDSHAKE, MAIL, RCPT, DATA, CONTENT, DOT, QUIT, PARKED, STATES };
static const char *const named[STATES] = {"off",  "greeting", "EHLO",    "STARTTLS", "handshake", "MAIL",
                                          "RCPT", "DATA",     "content", "dot",      "QUIT",      "parked"};
enum { SCRATCH = 65536, HEADER = 512, OPENING_MAX = 200 };

struct session {
    struct wire wire;
    enum state state;
    int is_idle, sent, recipients_sent, recipients_heard, in_length, header_length;
    long number, content_at;
    double began, dotted, wake_at;
    char in[4096], header[HEADER];
};

static int port, pipelined, with_tls, idle_tls;
static long messages, first, tokens, each, size, recipients, domains, run, errors_max;
static double pause_seconds;
static SSL_CTX *tls;
static int epoll;
static struct session *sessions;
static char *body;
static long body_length, next_token, accepted, in_hand, errors, opening, held;
static unsigned char *acked;
static float *from_start, *from_dot;
static double started, ended;
static char last_error[256];

static void start(struct session *s);

static void fail(struct session *s, const char *why) {
    if (s->is_idle && s->state == PARKED) held--;
    if (s->is_idle && s->state != PARKED && s->state != OFF) opening--;
    errors++;
    snprintf(last_error, sizeof last_error, "%s: %.200s", named[s->state], why);
    for (char *c = last_error; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') *c = ' ';
    if (s->number >= 0) in_hand--;
    s->number = -1;
    wire_close(&s->wire);
    s->state = OFF;
    s->wake_at = now() + 0.05;
}

static void say(struct session *s, enum state next, const char *text, size_t length) {
    if (wire_write(&s->wire, text, length) != (long)length) fail(s, "a command could not be written whole");
    else s->state = next;
}

/* ---- one message */

static int take(struct session *s) { /* a new number, if one is wanted: as many are in hand as are missing */
    if (accepted + in_hand >= messages || next_token >= tokens) return 0;
    s->number = first + next_token++;
    in_hand++;
    s->recipients_sent = s->recipients_heard = 0;
    return 1;
}

static int write_recipient(struct session *s, char *into, size_t room_left) {
    long k = s->recipients_sent++;
    long domain = (s->number * recipients + k) % domains;
    return snprintf(into, room_left, "RCPT TO:<r%ld@d%ld.bench.example>\r\n", k, domain);
}

static void begin_message(struct session *s) {
    static char text[SCRATCH];
    size_t length = sprintf(text, "MAIL FROM:<sender@load.example>\r\n");
    if (pipelined) {
        while (s->recipients_sent < recipients) length += write_recipient(s, text + length, sizeof text - length);
        length += sprintf(text + length, "DATA\r\n");
    }
    say(s, MAIL, text, length);
}

static void begin_content(struct session *s) {
    s->header_length = snprintf(s->header, HEADER,
                                "X-Bench: %ld-%ld-%.0f\r\nFrom: <sender@load.example>\r\nTo: <r0@d0.bench.example>\r\n"
                                "Date: Sun, 22 Nov 2026 06:00:00 +0000\r\nMessage-ID: <%ld.%ld@load.example>\r\n"
                                "Subject: one of many\r\n\r\n",
                                run, s->number, now() * 1e6, run, s->number);
    s->content_at = 0;
    s->state = CONTENT;
}

/* Header, then the body that all messages share, in pieces made anew each time: what TLS wants to see again is the same. */
static void pump(struct session *s) {
    static char scratch[SCRATCH];
    long whole = s->header_length + body_length;
    while (s->content_at < whole) {
        long length = 0, at = s->content_at;
        if (at < s->header_length) {
            length = s->header_length - at;
            memcpy(scratch, s->header + at, length);
            at = s->header_length;
        }
        long more = whole - at < SCRATCH - length ? whole - at : SCRATCH - length;
        memcpy(scratch + length, body + (at - s->header_length), more);
        long put = wire_write(&s->wire, scratch, length + more);
        if (put == AGAIN) {
            watch(epoll, EPOLL_CTL_MOD, s->wire.fd, EPOLLIN | EPOLLOUT, s);
            return;
        }
        if (put <= 0) {
            fail(s, "the content could not be written");
            return;
        }
        s->content_at += put;
    }
    s->dotted = now();
    s->state = DOT;
    watch(epoll, EPOLL_CTL_MOD, s->wire.fd, EPOLLIN, s);
}

static void is_kept(struct session *s) {
    double t = now();
    from_start[accepted] = t - s->began;
    from_dot[accepted] = t - s->dotted;
    acked[s->number - first] = 1;
    accepted++, in_hand--, s->sent++;
    s->number = -1;
    ended = t;
    if (s->sent < each && pause_seconds == 0 && take(s)) {
        s->began = t;
        begin_message(s);
    } else
        say(s, QUIT, "QUIT\r\n", 6);
}

/* ---- a connection */

static void is_greeted(struct session *s) { /* EHLO was answered for the last time */
    if (s->is_idle) {
        s->state = PARKED;
        held++, opening--;
    } else
        begin_message(s);
}

static void on_reply(struct session *s, int code, const char *line) {
    int wanted = s->state == DATA ? 3 : 2;
    if (s->state == QUIT) {
        wire_close(&s->wire);
        s->state = OFF;
        s->wake_at = pause_seconds ? now() + pause_seconds : 0;
        if (!pause_seconds) start(s);
        return;
    }
    if (code / 100 != wanted) {
        fail(s, line);
        return;
    }
    char text[256];
    switch (s->state) {
    case GREETING:
        say(s, EHLO, "EHLO load.example\r\n", 19);
        break;
    case EHLO:
        if (!s->wire.tls && (s->is_idle ? idle_tls : with_tls)) say(s, STARTTLS, "STARTTLS\r\n", 10);
        else is_greeted(s);
        break;
    case STARTTLS:
        if (tls_begin(&s->wire, tls, 0)) fail(s, "TLS does not begin");
        else s->state = HANDSHAKE;
        break;
    case MAIL:
        if (pipelined) s->state = RCPT;
        else say(s, RCPT, text, write_recipient(s, text, sizeof text));
        break;
    case RCPT:
        if (++s->recipients_heard < recipients) {
            if (!pipelined) say(s, RCPT, text, write_recipient(s, text, sizeof text));
        } else if (pipelined) s->state = DATA;
        else say(s, DATA, "DATA\r\n", 6);
        break;
    case DATA:
        begin_content(s);
        pump(s);
        break;
    case DOT:
        is_kept(s);
        break;
    default:
        fail(s, line);
    }
}

static void shake_hands(struct session *s) {
    int result = tls_handshake(&s->wire);
    if (result == FAILED) fail(s, "TLS");
    else if (!result) {
        watch(epoll, EPOLL_CTL_MOD, s->wire.fd, EPOLLIN, s);
        say(s, EHLO, "EHLO load.example\r\n", 19);
    } /* what the handshake writes fits into the socket: only reading is waited for */
}

static void on_input(struct session *s) {
    while (s->wire.fd >= 0 && s->state != HANDSHAKE) {
        long got = wire_read(&s->wire, s->in + s->in_length, sizeof s->in - 1 - s->in_length);
        if (got == AGAIN) return;
        if (got <= 0) {
            fail(s, got ? strerror(errno) : "the relay has closed");
            return;
        }
        s->in_length += got;
        s->in[s->in_length] = 0;
        char *line = s->in, *end;
        int fd = s->wire.fd;
        while ((end = memchr(line, '\n', s->in + s->in_length - line))) {
            *end = 0;
            if (end - line > 3 && line[3] != '-') {
                on_reply(s, atoi(line), line);
                if (s->wire.fd != fd || s->state == GREETING || s->state == OFF) return; /* another connection by now */
            }
            line = end + 1;
        }
        s->in_length -= line - s->in;
        memmove(s->in, line, s->in_length);
        if (!s->wire.tls && got < (long)sizeof s->in / 2) break; /* epoll tells if there is more */
    }
    if (s->state == HANDSHAKE) shake_hands(s);
}

static void start(struct session *s) {
    if (!s->is_idle && !take(s)) return;
    s->sent = s->in_length = 0;
    s->began = now();
    s->state = GREETING;
    if (s->is_idle) opening++;
    s->wire.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->wire.fd < 0) {
        fail(s, "no socket");
        return;
    }
    no_delay(s->wire.fd);
    struct sockaddr_in to = loopback(port);
    if (connect(s->wire.fd, (void *)&to, sizeof to) && errno != EINPROGRESS) fail(s, strerror(errno));
    else watch(epoll, EPOLL_CTL_ADD, s->wire.fd, EPOLLIN, s);
}

/* ---- the run */

static void turn(int wait_ms) {
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, wait_ms);
    for (int i = 0; i < ready; i++) {
        struct session *s = events[i].data.ptr;
        if (s->wire.fd < 0) continue;
        if ((events[i].events & EPOLLOUT) && s->state == CONTENT) pump(s);
        if (s->wire.fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) on_input(s);
    }
}

static void open_idle(struct session *s, long count, double deadline) {
    for (long i = 0; (i < count || opening > 0) && errors < errors_max && now() < deadline;) {
        while (i < count && opening < OPENING_MAX) start(&s[i++]);
        turn(5);
    }
}

/* Only hold them: say so, and look after them until stdin ends. */
static void hold(void) {
    printf("{\"opened\":%ld}\n", held);
    fflush(stdout);
    char nothing[64];
    fcntl(0, F_SETFL, O_NONBLOCK);
    while (read(0, nothing, sizeof nothing) != 0) turn(20);
}

static void send_all(long connections, double deadline) {
    long begun = 0;
    double looked = 0;
    while (accepted < messages && errors < errors_max && now() < deadline) {
        while (begun < connections && now() - started >= begun * 0.001) start(&sessions[begun++]); /* no burst of SYNs */
        turn(begun < connections ? 1 : 5);
        double t = now();
        if (t - looked < 0.002) continue;
        looked = t;
        for (long i = 0; i < begun; i++)
            if (sessions[i].state == OFF && sessions[i].wake_at <= t) start(&sessions[i]);
    }
}

static void make_body(void) {
    body = room(size + 512, 1);
    long at = 0;
    while (at < size - 300) { /* the header takes about 250 */
        at += sprintf(body + at, "%08ld the quick brown fox jumps over the lazy dog and so on until 76\r\n", at);
    }
    at += sprintf(body + at, ".\r\n");
    body_length = at;
}

int main(int argc, char **argv) {
    only(argc, argv, " port messages run first connections each size recipients domains pipeline tls pause idle idle_tls"
                     " errors timeout acked ");
    port = number(argc, argv, "port", 0), messages = number(argc, argv, "messages", 1);
    run = number(argc, argv, "run", 1), first = number(argc, argv, "first", 0);
    long connections = number(argc, argv, "connections", 50), idle = number(argc, argv, "idle", 0);
    each = number(argc, argv, "each", 1), size = number(argc, argv, "size", 5120);
    recipients = number(argc, argv, "recipients", 1), domains = number(argc, argv, "domains", 1);
    pipelined = number(argc, argv, "pipeline", 0), with_tls = number(argc, argv, "tls", 0);
    idle_tls = number(argc, argv, "idle_tls", 0), errors_max = number(argc, argv, "errors", 100);
    pause_seconds = number(argc, argv, "pause", 0) / 1e3;
    if (recipients > 1000 || recipients < 1 || domains < 1 || size < 512) die("recipients, domains or size");
    tokens = messages + errors_max;
    many_files();
    if (with_tls || idle_tls) tls = tls_context(NULL, NULL);
    make_body();
    epoll = epoll_create1(0);
    sessions = room(connections + idle, sizeof *sessions);
    for (long i = 0; i < connections + idle; i++)
        sessions[i].wire.fd = -1, sessions[i].number = -1, sessions[i].is_idle = i >= connections;
    from_start = room(messages + 1, sizeof(float)), from_dot = room(messages + 1, sizeof(float));
    acked = room(tokens, 1);
    double before = now(), deadline = before + number(argc, argv, "timeout", 60);
    if (idle) open_idle(sessions + connections, idle, deadline);
    long opened = held;
    double opening_took = now() - before;
    started = ended = now();
    if (!messages) hold();
    send_all(connections, deadline);
    const char *file = option(argc, argv, "acked", NULL);
    if (file) {
        FILE *f = fopen(file, "wb");
        if (!f || fwrite(acked, 1, tokens, f) != (size_t)tokens || fclose(f)) die(file);
    }
    printf("{\"accepted\":%ld,\"errors\":%ld,\"last_error\":\"%s\",\"started\":%.6f,\"ended\":%.6f,\"cpu\":%.4f,",
           accepted, errors, last_error, started, ended, cpu());
    printf("\"idle\":{\"asked\":%ld,\"opened\":%ld,\"held\":%ld,\"seconds\":%.3f},", idle, opened, held, opening_took);
    print_spread("start_to_250", from_start, accepted);
    printf(",");
    print_spread("dot_to_250", from_dot, accepted);
    printf("}\n");
    return accepted < messages;
}
