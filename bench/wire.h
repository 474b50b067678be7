/* What load.c and sink.c have in common: options as name=value, time, sockets on loopback, TLS, JSON.

   Owns: octets in and out of a connection, in clear or by TLS (where OpenSSL's headers are, -DWITH_TLS).
   Does not own: SMTP, what is counted. Everything is non-blocking, in one thread around epoll. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
typedef void SSL_CTX;
#endif

enum { AGAIN = -2, FAILED = -1 }; /* of wire_read and wire_write; 0: the peer has closed */

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "wrong");
    exit(1);
}

static inline void *room(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("memory");
    return memory;
}

static inline double now(void) { /* seconds of the machine's monotonic clock, the same one in every process */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static inline double cpu(void) { /* seconds that this process has used */
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static inline const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], name, length) && argv[i][length] == '=') return argv[i] + length + 1;
    return otherwise;
}

static inline long number(int argc, char **argv, const char *name, long otherwise) {
    const char *text = option(argc, argv, name, NULL);
    return text ? atol(text) : otherwise;
}

/* An option that nobody reads is a mistake in a script, and would make a figure of something else. */
static inline void only(int argc, char **argv, const char *names) {
    for (int i = 1; i < argc; i++) {
        char name[64];
        snprintf(name, sizeof name, " %.*s ", (int)strcspn(argv[i], "="), argv[i]);
        if (!strchr(argv[i], '=') || !strstr(names, name)) {
            fprintf(stderr, "%s is not an option; they are%s\n", argv[i], names);
            exit(2);
        }
    }
}

static inline void many_files(void) {
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK); /* never anywhere else: this is a weapon */
    return a;
}

static inline void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline void watch(int epoll, int operation, int fd, uint32_t events, void *who) {
    struct epoll_event e = {.events = events, .data.ptr = who};
    if (epoll_ctl(epoll, operation, fd, &e)) die("epoll_ctl");
}

/* ---- octets, in clear or by TLS */

struct wire {
    int fd;
    SSL *tls; /* NULL: in clear */
};

static inline long wire_read(struct wire *w, char *into, size_t size) {
#ifdef WITH_TLS
    if (w->tls) {
        ERR_clear_error();
        int got = SSL_read(w->tls, into, (int)size);
        if (got > 0) return got;
        int why = SSL_get_error(w->tls, got);
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? AGAIN
               : why == SSL_ERROR_ZERO_RETURN                             ? 0
                                                                          : FAILED;
    }
#endif
    long got = read(w->fd, into, size);
    return got >= 0 ? got : errno == EAGAIN ? AGAIN : FAILED;
}

static inline long wire_write(struct wire *w, const char *from, size_t size) {
#ifdef WITH_TLS
    if (w->tls) {
        ERR_clear_error();
        int put = SSL_write(w->tls, from, (int)size);
        if (put > 0) return put;
        int why = SSL_get_error(w->tls, put);
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? AGAIN : FAILED;
    }
#endif
    long put = send(w->fd, from, size, MSG_NOSIGNAL);
    return put >= 0 ? put : errno == EAGAIN ? AGAIN : FAILED;
}

static inline void wire_close(struct wire *w) {
#ifdef WITH_TLS
    if (w->tls) SSL_free(w->tls);
#endif
    w->tls = NULL;
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
}

/* A client's context (certificate NULL: it verifies nobody) or a server's; neither ever resumes a session. */
static inline SSL_CTX *tls_context(const char *certificate, const char *key) {
#ifdef WITH_TLS
    SSL_CTX *c = SSL_CTX_new(certificate ? TLS_server_method() : TLS_client_method());
    if (!c) die("TLS");
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(c, 0);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (certificate && (SSL_CTX_use_certificate_chain_file(c, certificate) != 1 ||
                        SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1))
        die("certificate or key");
    return c;
#else
    (void)certificate, (void)key;
    fprintf(stderr, "built without TLS: OpenSSL's headers were not there (Debian: libssl-dev)\n");
    exit(3);
#endif
}

static inline int tls_begin(struct wire *w, SSL_CTX *context, int is_server) {
#ifdef WITH_TLS
    w->tls = SSL_new(context);
    if (!w->tls || !SSL_set_fd(w->tls, w->fd)) return FAILED;
    if (is_server) SSL_set_accept_state(w->tls);
    else SSL_set_connect_state(w->tls);
    return 0;
#else
    (void)w, (void)context, (void)is_server;
    return FAILED;
#endif
}

static inline int tls_handshake(struct wire *w) { /* 0 when done, AGAIN, FAILED */
#ifdef WITH_TLS
    ERR_clear_error();
    int done = SSL_do_handshake(w->tls);
    if (done == 1) return 0;
    int why = SSL_get_error(w->tls, done);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? AGAIN : FAILED;
#else
    (void)w;
    return FAILED;
#endif
}

/* ---- figures */

static inline int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Print a JSON member with milliseconds of so many seconds; sorts them. */
static inline void print_spread(const char *name, float *seconds, long count) {
    qsort(seconds, count, sizeof *seconds, ascending);
#define MS(part) (count ? seconds[(long)((count - 1) * (part))] * 1e3 : 0.0)
    printf("\"%s\":{\"count\":%ld,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f}", name, count, MS(.5), MS(.9),
           MS(.99), MS(1));
#undef MS
}
