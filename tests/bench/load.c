/*
 * load: submits messages over SMTP and measures how long each takes from its final dot to the 250.
 *
 * A thread per session, blocking sockets, no pipelining: what most applications do. Messages are numbered from -b on,
 * and carry their number in the field X-Token, by which the sink knows them again. Nothing is tried twice: the first
 * reply that is not the expected one, or a lost connection, ends the run with exit code 1, since what was lost or
 * doubled could otherwise be the loader's doing.
 *
 *   load -p PORT -n MESSAGES -c SESSIONS -s OCTETS    where to, how many, over how many sessions, how large each
 *        [-h ADDRESS]              127.0.0.1
 *        [-k COUNT]                messages per connection; 0: as many as there are
 *        [-t | -T]                 STARTTLS, or TLS from the start; certificates are not verified
 *        [-u LOGIN -w SECRET]      AUTH PLAIN
 *        [-f SENDER] [-d DOMAIN]   recipients are r0.0@DOMAIN, r1.0@DOMAIN ...
 *        [-l PREFIX]               r: how their local parts begin
 *        [-r COUNT]                recipients of a message: r0.0@DOMAIN, r0.1@DOMAIN ...; 1
 *        [-D COUNT]                they are at d0.DOMAIN, d1.DOMAIN ... in turn
 *        [-g COUNT]                ... so many of a message at one of them before the next; 0: all
 *        [-b FIRST]                the first message's number
 *        [-R RATE]                 messages per second at most; 0: no limit
 *
 * One line of JSON says how it went: seconds, latencies in milliseconds, CPU seconds of this program, connections.
 *
 *   load -i -p PORT -c SESSIONS ...                   no messages: sessions that are opened and then say nothing
 *
 * It writes "ready" once all are open, and ends when its standard input does.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum tls_mode { CLEAR, STARTTLS, IMPLICIT };

static struct {
    const char *address, *login, *secret, *sender, *domain, *prefix;
    int port, messages, sessions, octets, per_connection, first, recipients, domains, per_domain;
    double rate;
    enum tls_mode tls;
    bool idle;
} options = {.address = "127.0.0.1", .sender = "app@sender.example", .domain = "example.org", .prefix = "r",
             .octets = 4096, .recipients = 1};

#define OPENING 20 /* idle sessions that are opened at once */

static atomic_int next_message, connections;
static SSL_CTX *tls_context;
static double *latencies; /* seconds, by message */
static char *body;
static size_t body_length;
static double began_at;

struct session {
    int socket;
    SSL *tls;
    int sent; /* messages over this connection */
    size_t at, end;
    char input[4096];
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Of several threads that fail, the first tells why and ends them all; the others wait for that. */
static void fail(const char *format, ...)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&told))
        pause();
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

/* Octets out, lines in. */

static void put(struct session *session, const char *octets, size_t length)
{
    while (length > 0) {
        ssize_t written = session->tls ? SSL_write(session->tls, octets, (int)length)
                                       : send(session->socket, octets, length, MSG_NOSIGNAL);
        if (written <= 0)
            fail("the server takes no more: %s", strerror(errno));
        octets += written;
        length -= (size_t)written;
    }
}

static char get(struct session *session)
{
    if (session->at == session->end) {
        ssize_t count = session->tls ? SSL_read(session->tls, session->input, sizeof session->input)
                                     : recv(session->socket, session->input, sizeof session->input, 0);
        if (count <= 0)
            fail("the server closed the connection, or said nothing for a minute");
        session->at = 0;
        session->end = (size_t)count;
    }
    return session->input[session->at++];
}

static void expect(struct session *session, int code, const char *after)
{
    char line[1024];
    do {
        size_t length = 0;
        char letter;
        while ((letter = get(session)) != '\n')
            if (length < sizeof line - 1 && letter != '\r')
                line[length++] = letter;
        line[length] = 0;
    } while (strlen(line) > 3 && line[3] == '-');
    if (atoi(line) != code)
        fail("%s was answered \"%s\"", after, line);
}

static void command(struct session *session, int code, const char *format, ...)
{
    char line[1200];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 2, format, arguments);
    va_end(arguments);
    memcpy(line + length, "\r\n", 2);
    put(session, line, (size_t)length + 2);
    expect(session, code, format);
}

/* A connection. */

static void begin_tls(struct session *session)
{
    session->tls = SSL_new(tls_context);
    SSL_set_fd(session->tls, session->socket);
    if (SSL_connect(session->tls) != 1)
        fail("the TLS handshake failed");
}

static void log_in(struct session *session)
{
    char plain[512], encoded[1024];
    int length = snprintf(plain, sizeof plain, "%c%s%c%s", 0, options.login, 0, options.secret);
    EVP_EncodeBlock((unsigned char *)encoded, (unsigned char *)plain, length);
    command(session, 235, "AUTH PLAIN %s", encoded);
}

static void open_session(struct session *session)
{
    int on = 1;
    struct timeval patience = {.tv_sec = 60};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    inet_pton(AF_INET, options.address, &to.sin_addr);
    *session = (struct session){.socket = socket(AF_INET, SOCK_STREAM, 0)};
    setsockopt(session->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(session->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(session->socket, (struct sockaddr *)&to, sizeof to) != 0)
        fail("cannot connect to port %d: %s", options.port, strerror(errno));
    atomic_fetch_add(&connections, 1);
    if (options.tls == IMPLICIT)
        begin_tls(session);
    expect(session, 220, "the connection");
    command(session, 250, "EHLO load.example");
    if (options.tls == STARTTLS) {
        command(session, 220, "STARTTLS");
        begin_tls(session);
        command(session, 250, "EHLO load.example");
    }
    if (options.login)
        log_in(session);
}

static void close_session(struct session *session)
{
    command(session, 221, "QUIT");
    SSL_free(session->tls);
    close(session->socket);
    session->socket = -1;
}

/* A message. */

/* Its address; of all messages' recipients, every `per_domain` of a message are at the next domain. */
static void write_recipient(char *to, size_t room, int number, int index)
{
    int length = snprintf(to, room, "%s%d.%d@", options.prefix, number, index);
    if (options.domains) {
        int per_domain = options.per_domain ? options.per_domain : options.recipients;
        long of_a_message = (options.recipients + per_domain - 1) / per_domain;
        long turn = number * of_a_message + index / per_domain;
        length += snprintf(to + length, room - (size_t)length, "d%ld.", turn % options.domains);
    }
    snprintf(to + length, room - (size_t)length, "%s", options.domain);
}

static size_t write_header(char *to, size_t room, int number)
{
    char recipient[512];
    write_recipient(recipient, sizeof recipient, number, 0);
    return (size_t)snprintf(to, room,
                            "From: Application <%s>\r\n"
                            "To: <%s>\r\n"
                            "Subject: Message %d of a benchmark\r\n"
                            "Date: Fri, 20 Nov 2026 14:00:00 +0000\r\n"
                            "Message-ID: <%d.%d@load.example>\r\n"
                            "MIME-Version: 1.0\r\n"
                            "Content-Type: text/plain; charset=utf-8\r\n"
                            "X-Token: %d\r\n\r\n",
                            options.sender, recipient, number, number, (int)getpid(), number);
}

static void make_body(void)
{
    static const char letters[] = "the quick brown fox jumps over the lazy dog 0123456789 THE QUICK BROWN FOX ";
    char header[1024];
    size_t wanted = (size_t)options.octets - write_header(header, sizeof header, options.first);
    if (wanted > (size_t)options.octets)
        wanted = 2;
    body = malloc(wanted + 80);
    while (body_length + 2 <= wanted) { /* lines of at most 78 octets, none of which begins with a dot */
        size_t line = wanted - body_length - 2 < 76 ? wanted - body_length - 2 : 76;
        for (size_t i = 0; i < line; i++)
            body[body_length + i] = i == 0 ? 'x' : letters[(body_length / 78 * 7 + i) % (sizeof letters - 1)];
        memcpy(body + body_length + line, "\r\n", 2);
        body_length += line + 2;
    }
}

static void send_message(struct session *session, int index, char *content)
{
    int number = options.first + index;
    command(session, 250, "MAIL FROM:<%s>", options.sender);
    for (int i = 0; i < options.recipients; i++) {
        char recipient[512];
        write_recipient(recipient, sizeof recipient, number, i);
        command(session, 250, "RCPT TO:<%s>", recipient);
    }
    command(session, 354, "DATA");
    size_t length = write_header(content, 1024, number);
    memcpy(content + length, body, body_length);
    memcpy(content + length + body_length, ".\r\n", 3);
    double sent_at = now();
    put(session, content, length + body_length + 3);
    expect(session, 250, "the message");
    latencies[index] = now() - sent_at;
    session->sent++;
}

static void wait_for_turn(int index)
{
    double left = began_at + index / options.rate - now();
    if (left > 0)
        nanosleep(&(struct timespec){(time_t)left, (long)((left - (double)(time_t)left) * 1e9)}, NULL);
}

static void *run_session(void *unused)
{
    (void)unused;
    struct session session = {.socket = -1};
    char *content = malloc(1024 + body_length + 3);
    int index;
    while ((index = atomic_fetch_add(&next_message, 1)) < options.messages) {
        if (options.rate > 0)
            wait_for_turn(index);
        if (session.socket < 0)
            open_session(&session);
        send_message(&session, index, content);
        if (options.per_connection && session.sent >= options.per_connection)
            close_session(&session);
    }
    if (session.socket >= 0)
        close_session(&session);
    free(content);
    return NULL;
}

/* Sessions that say nothing. */

static struct session *idle_sessions;

static void *open_idle_sessions(void *unused)
{
    (void)unused;
    int index;
    while ((index = atomic_fetch_add(&next_message, 1)) < options.sessions)
        open_session(&idle_sessions[index]);
    return NULL;
}

static void stay_idle(void)
{
    char input[64];
    pthread_t threads[OPENING];
    idle_sessions = calloc((size_t)options.sessions, sizeof *idle_sessions);
    for (int i = 0; i < OPENING; i++)
        if (pthread_create(&threads[i], NULL, open_idle_sessions, NULL) != 0)
            fail("cannot start a thread");
    for (int i = 0; i < OPENING; i++)
        pthread_join(threads[i], NULL);
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, input, sizeof input) > 0)
        ;
}

/* The whole. */

static void read_options(int count, char **words)
{
    int letter;
    while ((letter = getopt(count, words, "h:p:n:c:s:k:tTu:w:f:d:l:r:D:g:b:R:i")) != -1)
        switch (letter) {
        case 'h': options.address = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'n': options.messages = atoi(optarg); break;
        case 'c': options.sessions = atoi(optarg); break;
        case 's': options.octets = atoi(optarg); break;
        case 'k': options.per_connection = atoi(optarg); break;
        case 't': options.tls = STARTTLS; break;
        case 'T': options.tls = IMPLICIT; break;
        case 'u': options.login = optarg; break;
        case 'w': options.secret = optarg; break;
        case 'f': options.sender = optarg; break;
        case 'd': options.domain = optarg; break;
        case 'l': options.prefix = optarg; break;
        case 'r': options.recipients = atoi(optarg); break;
        case 'D': options.domains = atoi(optarg); break;
        case 'g': options.per_domain = atoi(optarg); break;
        case 'b': options.first = atoi(optarg); break;
        case 'R': options.rate = atof(optarg); break;
        case 'i': options.idle = true; break;
        default: exit(64);
        }
    if (!options.port || options.sessions < 1 || (!options.idle && options.messages < 1) || options.recipients < 1)
        fail("load needs -p PORT, -c SESSIONS, and -n MESSAGES or -i");
}

static int by_size(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static void report(double seconds)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    int count = options.messages;
    qsort(latencies, (size_t)count, sizeof *latencies, by_size);
    printf("{\"seconds\":%.4f,\"p50\":%.3f,\"p99\":%.3f,\"longest\":%.3f,\"cpu\":%.3f,\"connections\":%d}\n", seconds,
           latencies[count / 2] * 1e3, latencies[count * 99 / 100] * 1e3, latencies[count - 1] * 1e3, cpu,
           atomic_load(&connections));
}

int main(int count, char **words)
{
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    read_options(count, words);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    tls_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    if (options.idle) {
        stay_idle();
        return 0;
    }
    make_body();
    latencies = calloc((size_t)options.messages, sizeof *latencies);
    pthread_t *threads = calloc((size_t)options.sessions, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    began_at = now();
    for (int i = 0; i < options.sessions; i++)
        if (pthread_create(&threads[i], &attributes, run_session, NULL) != 0)
            fail("cannot start a thread");
    for (int i = 0; i < options.sessions; i++)
        pthread_join(threads[i], NULL);
    report(now() - began_at);
    return 0;
}
