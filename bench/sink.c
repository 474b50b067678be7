/* Takes mail on loopback and counts it: what came, how often, how long it was on its way.

   sink ports=2601,2602 run=1 tokens=6000 recipients=1      recipients: of each message (r0@.. to r9@.. for 10)
        slow=2602 delay=500                                 this port answers a final dot after so many milliseconds
        down=0                                              1: nothing listens until "up" is said
        certificate=PEM key=PEM                             with them STARTTLS is offered

   Asked line by line on stdin, it answers on stdout; it ends when stdin does:
        up          listen; answers {}
        mark        begin the times anew (the counts stay); answers {}
        report      a line of JSON
        seen FILE   write how often each recipient of each message came, one octet each; answers {}

   Reads the header that load.c writes; knows nothing of which messages were acknowledged (judge.py compares). */
#include "wire.h"

enum { HEAD = 16384, LINE = 2048, PORTS = 64, CARRY = 4, READ = 262144, LISTENER = 1, CLIENT = 2 };

struct port {
    int kind, number, fd, is_slow;
    long copies;
    double last;
};

struct client {
    int kind;
    struct wire wire;
    struct port *port;
    int in_content, in_handshake, line_length, head_length, carried, waits_for_dot;
    long count, room_for; /* recipients of this message */
    int *recipients;
    double answer_at;
    struct client *next_waiting;
    char line[LINE], head[HEAD], carry[CARRY];
};

static struct port ports[PORTS];
static int port_count, epoll;
static SSL_CTX *tls;
static long run, tokens, recipients, delay_ms;
static unsigned char *seen;
static float *delays;
static long delay_count, delay_room = 1 << 16;
static struct client *waiting, *last_waiting; /* for their slow answer, the first due first */
static struct {
    long messages, unique, doubled, strange, octets, connections, at_once, most;
    double first, last;
} counted;

/* ---- counting */

static void count(struct client *c) {
    double t = now();
    long its_run, token;
    double sent;
    char *at = memmem(c->head, c->head_length, "X-Bench: ", 9);
    counted.messages++;
    if (!at || sscanf(at + 9, "%ld-%ld-%lf", &its_run, &token, &sent) != 3 || its_run != run || token < 0 ||
        token >= tokens) {
        counted.strange++;
        return;
    }
    for (long i = 0; i < c->count; i++) {
        int k = c->recipients[i];
        if (k < 0 || k >= recipients) {
            counted.strange++;
            continue;
        }
        unsigned char *times = &seen[token * recipients + k];
        if (*times) {
            counted.doubled++;
            if (*times < 255) ++*times;
            continue;
        }
        *times = 1;
        counted.unique++;
        c->port->copies++;
        c->port->last = counted.last = t;
        if (!counted.first) counted.first = t;
    }
    if (c->port->is_slow) return; /* its delays are its own doing */
    if (delay_count == delay_room) {
        delays = realloc(delays, (delay_room *= 2) * sizeof *delays);
        if (!delays) die("memory");
    }
    delays[delay_count++] = t - sent / 1e6;
}

static void report(void) {
    printf("{\"messages\":%ld,\"unique\":%ld,\"doubled\":%ld,\"strange\":%ld,\"octets\":%ld,\"connections\":%ld,"
           "\"most_connections\":%ld,\"first\":%.6f,\"last\":%.6f,\"cpu\":%.4f,\"ports\":{",
           counted.messages, counted.unique, counted.doubled, counted.strange, counted.octets, counted.connections,
           counted.most, counted.first, counted.last, cpu());
    for (int i = 0; i < port_count; i++)
        printf("%s\"%d\":{\"unique\":%ld,\"last\":%.6f}", i ? "," : "", ports[i].number, ports[i].copies, ports[i].last);
    printf("},");
    print_spread("on_its_way", delays, delay_count);
    printf("}\n");
}

/* ---- SMTP */

struct answers {
    int length;
    char text[8192];
};

static void answer(struct answers *a, const char *text) {
    int length = strlen(text);
    if (a->length + length <= (int)sizeof a->text) memcpy(a->text + a->length, text, length), a->length += length;
}

static void ehlo(struct client *c, struct answers *a) {
    answer(a, "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n");
    if (tls && !c->wire.tls) answer(a, "250-STARTTLS\r\n");
    answer(a, "250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n");
}

static void note_recipient(struct client *c) {
    if (c->count == c->room_for) {
        c->room_for = c->room_for ? c->room_for * 2 : 4;
        c->recipients = realloc(c->recipients, c->room_for * sizeof(int));
        if (!c->recipients) die("memory");
    }
    int k = -1;
    char *at = strchr(c->line, '<');
    if (at && sscanf(at, "<r%d@", &k) != 1) k = -1;
    c->recipients[c->count++] = k;
}

enum { GO_ON, CLOSE, BEGIN_TLS };

static int on_command(struct client *c, struct answers *a) {
    const char *line = c->line;
    if (!strncasecmp(line, "MAIL", 4)) c->count = 0, answer(a, "250 2.1.0 Ok\r\n");
    else if (!strncasecmp(line, "RCPT", 4)) note_recipient(c), answer(a, "250 2.1.5 Ok\r\n");
    else if (!strncasecmp(line, "DATA", 4)) {
        answer(a, "354 Go ahead\r\n");
        c->in_content = 1, c->head_length = 0;
        memcpy(c->carry, "\r\n", c->carried = 2); /* a dot may come first */
    } else if (!strncasecmp(line, "EHLO", 4)) ehlo(c, a);
    else if (!strncasecmp(line, "STARTTLS", 8) && tls) {
        answer(a, "220 2.0.0 Go ahead\r\n");
        return BEGIN_TLS;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        answer(a, "221 2.0.0 Bye\r\n");
        return CLOSE;
    } else answer(a, "250 2.0.0 Ok\r\n"); /* HELO, RSET, NOOP */
    return GO_ON;
}

static void on_dot(struct client *c, struct answers *a) {
    c->in_content = 0;
    count(c);
    if (!c->port->is_slow) {
        answer(a, "250 2.0.0 Ok\r\n");
        return;
    }
    c->answer_at = now() + delay_ms / 1e3, c->waits_for_dot = 1, c->next_waiting = NULL;
    if (waiting) last_waiting->next_waiting = c;
    else waiting = c;
    last_waiting = c;
}

/* Take content up to its end; ``from`` has CARRY octets of room before it. Returns what was used. */
static long take_content(struct client *c, char *from, long length, struct answers *a) {
    char *begin = from - c->carried, *end;
    memcpy(begin, c->carry, c->carried); /* over what was used already */
    end = memmem(begin, length + c->carried, "\r\n.\r\n", 5);
    long used = end ? end + 5 - from : length;
    long head = used < HEAD - c->head_length ? used : HEAD - c->head_length;
    memcpy(c->head + c->head_length, from, head);
    c->head_length += head;
    if (end) {
        on_dot(c, a);
        return used;
    }
    long there = length + c->carried;
    c->carried = there < CARRY ? there : CARRY;
    memcpy(c->carry, from + length - c->carried, c->carried);
    return used;
}

static int on_octets(struct client *c, char *from, long length) {
    struct answers a = {0};
    int then = GO_ON;
    counted.octets += length;
    for (long used = 0; used < length && then == GO_ON;) {
        if (c->in_content) {
            used += take_content(c, from + used, length - used, &a);
            continue;
        }
        char *end = memchr(from + used, '\n', length - used);
        long more = end ? end + 1 - (from + used) : length - used;
        if (c->line_length + more >= LINE) return CLOSE;
        memcpy(c->line + c->line_length, from + used, more);
        c->line_length += more, used += more;
        if (!end) break;
        c->line[c->line_length] = 0, c->line_length = 0;
        then = on_command(c, &a);
    }
    if (a.length && wire_write(&c->wire, a.text, a.length) != a.length) return CLOSE;
    return then;
}

/* ---- connections */

static void forget(struct client *c) {
    wire_close(&c->wire);
    free(c->recipients);
    free(c);
    counted.at_once--;
}

static void drop(struct client *c) {
    if (c->waits_for_dot) wire_close(&c->wire); /* answer_slowly forgets it */
    else forget(c);
}

static void on_client(struct client *c) {
    static char space[CARRY + READ];
    if (c->wire.fd < 0) return;
    if (c->in_handshake) {
        int result = tls_handshake(&c->wire);
        if (result == FAILED) drop(c);
        if (result) return;
        c->in_handshake = 0;
    }
    for (;;) {
        long got = wire_read(&c->wire, space + CARRY, READ);
        if (got == AGAIN) return;
        int then = got > 0 ? on_octets(c, space + CARRY, got) : CLOSE;
        if (then == CLOSE) {
            drop(c);
            return;
        }
        if (then == BEGIN_TLS) {
            if (tls_begin(&c->wire, tls, 1)) drop(c);
            else c->in_handshake = 1;
            return; /* the client speaks next */
        }
        if (!c->wire.tls) return; /* epoll tells if there is more */
    }
}

static void on_listener(struct port *p) {
    int fd;
    while ((fd = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *c = room(1, sizeof *c);
        c->kind = CLIENT, c->wire.fd = fd, c->port = p;
        no_delay(fd);
        counted.connections++;
        if (++counted.at_once > counted.most) counted.most = counted.at_once;
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
        if (wire_write(&c->wire, "220 sink.example ESMTP\r\n", 24) != 24) drop(c);
    }
}

static int answer_slowly(void) { /* milliseconds until the next is due, or -1 */
    while (waiting && waiting->answer_at <= now()) {
        struct client *c = waiting;
        waiting = c->next_waiting, c->waits_for_dot = 0;
        if (c->wire.fd < 0 || wire_write(&c->wire, "250 2.0.0 Ok\r\n", 14) != 14) forget(c);
    }
    return waiting ? 1 + (int)((waiting->answer_at - now()) * 1e3) : -1;
}

static void go_up(void) {
    for (int i = 0; i < port_count; i++) {
        struct port *p = &ports[i];
        int one = 1;
        struct sockaddr_in at = loopback(p->number);
        if (p->fd >= 0) continue;
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(p->fd, (void *)&at, sizeof at) || listen(p->fd, 4096)) die("listen");
        watch(epoll, EPOLL_CTL_ADD, p->fd, EPOLLIN, p);
    }
}

/* ---- who asks */

static int obey(void) { /* 0: the end of stdin */
    static char asked[4096];
    static int length;
    long got = read(0, asked + length, sizeof asked - 1 - length);
    if (got <= 0) return 0;
    asked[length += got] = 0;
    char *end;
    while ((end = strchr(asked, '\n'))) {
        *end = 0;
        if (!strcmp(asked, "report")) report();
        else {
            if (!strcmp(asked, "up")) go_up();
            if (!strcmp(asked, "mark")) counted.first = counted.last = delay_count = 0;
            if (!strncmp(asked, "seen ", 5)) {
                FILE *f = fopen(asked + 5, "wb");
                if (!f || fwrite(seen, recipients, tokens, f) != (size_t)tokens || fclose(f)) die(asked + 5);
            }
            printf("{}\n");
        }
        fflush(stdout);
        length -= end + 1 - asked;
        memmove(asked, end + 1, length + 1);
    }
    return 1;
}

int main(int argc, char **argv) {
    only(argc, argv, " ports run tokens recipients slow delay down certificate key ");
    const char *list = option(argc, argv, "ports", ""), *certificate = option(argc, argv, "certificate", NULL);
    run = number(argc, argv, "run", 1), tokens = number(argc, argv, "tokens", 1000000);
    recipients = number(argc, argv, "recipients", 1), delay_ms = number(argc, argv, "delay", 0);
    for (const char *at = list; *at && port_count < PORTS; at += *at == ',') {
        struct port *p = &ports[port_count++];
        p->kind = LISTENER, p->fd = -1, p->number = strtol(at, (char **)&at, 10);
        p->is_slow = p->number == number(argc, argv, "slow", -1);
    }
    if (!port_count || tokens < 1 || recipients < 1) die("ports, tokens or recipients");
    if (certificate) tls = tls_context(certificate, option(argc, argv, "key", certificate));
    seen = room(tokens * recipients, 1), delays = room(delay_room, sizeof *delays);
    many_files();
    epoll = epoll_create1(0);
    watch(epoll, EPOLL_CTL_ADD, 0, EPOLLIN, NULL);
    if (!number(argc, argv, "down", 0)) go_up();
    printf("{}\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, answer_slowly());
        for (int i = 0; i < ready; i++) {
            int *kind = events[i].data.ptr;
            if (!kind) {
                if (!obey()) return 0;
            } else if (*kind == LISTENER) on_listener((struct port *)kind);
            else on_client((struct client *)kind);
        }
    }
}
