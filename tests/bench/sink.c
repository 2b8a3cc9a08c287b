/*
 * sink: takes mail over SMTP and counts it, each message by the number in its X-Token field.
 *
 * One thread, epoll, clear text only. The counts are in a mapped file, so that looking at them costs the sink nothing:
 * a header of 64-bit numbers (`struct totals`), then for each number that a message may carry how often it came, how
 * many octets its body had and when it came. What carries no number, or one beyond the table, is counted as a stray.
 *
 *   sink -p PORT -m FILE       where it listens, and the file of counts, which is made anew
 *        [-a ADDRESS]          127.0.0.1
 *        [-n NUMBERS]          the table's size: 1000000
 *        [-l PREFIX]           recipients whose local part begins so are put off with 451
 *        [-w MILLISECONDS]     how long it takes for each message before it says 250
 *        [-g]                  every session is refused in its greeting, with 421
 *        [-o DIRECTORY -e N]   every Nth message is kept as DIRECTORY/NUMBER, as it came (dots still stuffed)
 *
 * It writes "ready" once it listens, and ends by a signal.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER_LIMIT 16384
#define EVENTS 256

struct totals {
    uint64_t messages, recipients, deferred, connections, octets, strays;
    uint64_t first_ns, last_ns; /* CLOCK_MONOTONIC of the first and the last message */
    uint64_t open, most_open, open_ns, changed_ns; /* connections; for how long, added up, until they last changed */
};

struct entry {
    uint32_t count, body_octets;
    uint64_t at_ns; /* CLOCK_MONOTONIC of its last octet */
};

static struct {
    const char *address, *file, *later, *directory;
    int port, every;
    bool refuses;
    uint64_t takes_ns;
    size_t numbers;
} options = {.address = "127.0.0.1", .numbers = 1000000, .every = 1};

static struct totals *totals;
static struct entry *entries;

/* A connection. While content comes, `matched` is how much of CRLF . CRLF the last octets were. */
struct connection {
    int socket;
    bool in_content;
    unsigned taken, refused; /* recipients of this message */
    size_t line_length;
    char line[2048];
    int matched;
    size_t content_octets, header_length, body_at;
    int copy; /* a file descriptor, or -1 */
    uint64_t due_ns; /* when its 250 is due, 0 for no message */
    struct connection *next; /* of those with a message, in order of that */
    char header[HEADER_LIMIT];
};

static struct {
    struct connection *first, *last;
} due;

static char output[65536];
static size_t output_length;

static void say(struct connection *connection, const char *text)
{
    size_t length = strlen(text);
    if (output_length + length > sizeof output) {
        if (write(connection->socket, output, output_length) < 0)
            output_length = 0; /* it is gone; epoll will say so */
        output_length = 0;
    }
    memcpy(output + output_length, text, length);
    output_length += length;
}

/* Content. */

static long number_of(struct connection *connection)
{
    static const char name[] = "\r\nX-Token: ";
    char *found = memmem(connection->header, connection->header_length, name, sizeof name - 1);
    if (!found)
        return -1;
    long number = 0;
    char *end = connection->header + connection->header_length;
    for (char *at = found + sizeof name - 1; at < end && *at >= '0' && *at <= '9'; at++)
        number = number * 10 + (*at - '0');
    return number;
}

static void keep(struct connection *connection, const char *octets, size_t length)
{
    if (connection->copy >= 0 && write(connection->copy, octets, length) != (ssize_t)length) {
        perror("sink: cannot write a copy");
        exit(74);
    }
}

static void begin_copy(struct connection *connection, long number)
{
    char path[4096];
    if (!options.directory || number < 0 || number % options.every)
        return;
    snprintf(path, sizeof path, "%s/%ld", options.directory, number);
    connection->copy = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    keep(connection, connection->header, connection->header_length);
}

/* The octets of the content as they come; the first ones are gathered until the header is whole. */
static void take_content(struct connection *connection, const char *octets, size_t length)
{
    connection->content_octets += length;
    if (connection->body_at) {
        keep(connection, octets, length);
        return;
    }
    size_t room = HEADER_LIMIT - connection->header_length, count = length < room ? length : room;
    memcpy(connection->header + connection->header_length, octets, count);
    connection->header_length += count;
    char *end = memmem(connection->header, connection->header_length, "\r\n\r\n", 4);
    if (!end)
        return;
    connection->body_at = (size_t)(end - connection->header) + 4;
    begin_copy(connection, number_of(connection));
    keep(connection, octets + count, length - count);
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* It says nothing, and is not listened to, until its 250 is due. */
static void put_off(struct connection *connection)
{
    connection->due_ns = now_ns() + options.takes_ns;
    connection->next = NULL;
    if (due.first)
        due.last->next = connection;
    else
        due.first = connection;
    due.last = connection;
}

static void end_content(struct connection *connection)
{
    long number = number_of(connection);
    if (number >= 0 && (size_t)number < options.numbers) {
        entries[number].count++;
        entries[number].at_ns = now_ns();
        /* without the dot and its CRLF, which are no part of the body */
        entries[number].body_octets = (uint32_t)(connection->content_octets - connection->body_at - 3);
    } else {
        totals->strays++;
    }
    if (connection->copy >= 0)
        close(connection->copy);
    connection->copy = -1;
    connection->in_content = false;
    totals->recipients += connection->taken;
    totals->last_ns = now_ns();
    if (!totals->first_ns)
        totals->first_ns = totals->last_ns;
    totals->messages++;
    connection->taken = connection->refused = 0;
    if (options.takes_ns)
        put_off(connection);
    else
        say(connection, "250 2.0.0 taken\r\n");
}

/* How many of the octets belong to the content; sets *ended when the dot is among them. */
static size_t scan_content(struct connection *connection, const char *octets, size_t length, bool *ended)
{
    static const char end[] = "\r\n.\r\n";
    size_t at = 0;
    while (at < length) {
        if (connection->matched == 0) {
            const char *found = memchr(octets + at, '\r', length - at);
            if (!found)
                return length;
            at = (size_t)(found - octets);
        }
        char octet = octets[at++];
        if (octet == end[connection->matched])
            connection->matched++;
        else
            connection->matched = octet == '\r';
        if (connection->matched == 5) {
            *ended = true;
            return at;
        }
    }
    return length;
}

static void begin_content(struct connection *connection)
{
    connection->in_content = true;
    connection->matched = 2; /* as after a line's end */
    connection->content_octets = connection->header_length = connection->body_at = 0;
    say(connection, "354 go on\r\n");
}

/* Commands. */

static bool is(struct connection *connection, const char *verb)
{
    return strncasecmp(connection->line, verb, strlen(verb)) == 0;
}

static void answer_recipient(struct connection *connection)
{
    const char *address = strchr(connection->line, '<');
    if (options.later && address && strncmp(address + 1, options.later, strlen(options.later)) == 0) {
        connection->refused++;
        totals->deferred++;
        say(connection, "451 4.7.1 later, please\r\n");
    } else {
        connection->taken++;
        say(connection, "250 2.1.5 ok\r\n");
    }
}

/* Returns false when the connection is to be closed. */
static bool answer(struct connection *connection)
{
    if (is(connection, "EHLO") || is(connection, "HELO"))
        say(connection, "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n"
                        "250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n");
    else if (is(connection, "RCPT"))
        answer_recipient(connection);
    else if (is(connection, "DATA") && connection->taken)
        begin_content(connection);
    else if (is(connection, "DATA"))
        say(connection, "554 5.5.1 no recipients\r\n");
    else if (is(connection, "QUIT")) {
        say(connection, "221 2.0.0 bye\r\n");
        return false;
    } else { /* MAIL, RSET, NOOP */
        connection->taken = connection->refused = 0;
        say(connection, "250 2.0.0 ok\r\n");
    }
    return true;
}

/* Takes commands up to the last complete one, or to DATA; returns how many octets, or -1 to close. */
static ssize_t take_commands(struct connection *connection, const char *octets, size_t length)
{
    size_t at = 0;
    while (at < length && !connection->in_content) {
        char octet = octets[at++];
        if (octet != '\n') {
            if (connection->line_length < sizeof connection->line - 1)
                connection->line[connection->line_length++] = octet;
            continue;
        }
        connection->line[connection->line_length] = 0;
        connection->line_length = 0;
        if (!answer(connection))
            return -1;
    }
    return (ssize_t)at;
}

static bool take(struct connection *connection, const char *octets, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if (connection->in_content) {
            bool ended = false;
            size_t count = scan_content(connection, octets + at, length - at, &ended);
            take_content(connection, octets + at, count);
            if (ended)
                end_content(connection);
            at += count;
        } else {
            ssize_t count = take_commands(connection, octets + at, length - at);
            if (count < 0)
                return false;
            at += (size_t)count;
        }
    }
    return true;
}

/* Sockets. */

static void count_open(int64_t change)
{
    uint64_t now = now_ns();
    totals->open_ns += totals->open * (now - totals->changed_ns);
    totals->changed_ns = now;
    totals->open += (uint64_t)change;
    if (totals->open > totals->most_open)
        totals->most_open = totals->open;
}

static void forget(struct connection *connection)
{
    count_open(-1);
    if (connection->copy >= 0)
        close(connection->copy);
    close(connection->socket);
    free(connection);
}

static void listen_to(int poll, struct connection *connection, uint32_t events)
{
    struct epoll_event wanted = {.events = events, .data.ptr = connection};
    epoll_ctl(poll, EPOLL_CTL_MOD, connection->socket, &wanted);
}

static void serve(int poll, struct connection *connection)
{
    static char input[1 << 20];
    ssize_t count = read(connection->socket, input, sizeof input);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        forget(connection);
        return;
    }
    totals->octets += (uint64_t)count;
    output_length = 0;
    bool go_on = take(connection, input, (size_t)count);
    if (output_length && write(connection->socket, output, output_length) < 0)
        go_on = false;
    if (!go_on)
        forget(connection);
    else if (connection->due_ns)
        listen_to(poll, connection, 0);
}

/* Says what is due; returns how many milliseconds the next has to wait, -1 for none. */
static int answer_due(int poll)
{
    static const char taken[] = "250 2.0.0 taken\r\n";
    uint64_t now = now_ns();
    while (due.first && due.first->due_ns <= now) {
        struct connection *connection = due.first;
        due.first = connection->next;
        connection->due_ns = 0;
        if (write(connection->socket, taken, sizeof taken - 1) < 0)
            errno = 0; /* it is gone; epoll will say so */
        listen_to(poll, connection, EPOLLIN);
    }
    return due.first ? (int)((due.first->due_ns - now) / 1000000 + 1) : -1;
}

static void accept_all(int listener, int poll)
{
    int on = 1, socket;
    while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        static const char greeting[] = "220 sink.example ESMTP\r\n", refusal[] = "421 4.3.2 sink.example busy\r\n";
        if (options.refuses) {
            if (write(socket, refusal, sizeof refusal - 1) < 0)
                errno = 0; /* it is gone already */
            close(socket);
            continue;
        }
        struct connection *connection = malloc(sizeof *connection);
        memset(connection, 0, offsetof(struct connection, header)); /* the large buffer is filled before it is read */
        connection->socket = socket;
        connection->copy = -1;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = connection};
        epoll_ctl(poll, EPOLL_CTL_ADD, socket, &wanted);
        totals->connections++;
        count_open(1);
        if (write(socket, greeting, sizeof greeting - 1) < 0)
            continue; /* epoll will say so */
    }
}

static int listen_at(void)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    inet_pton(AF_INET, options.address, &at.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on); /* one of all addresses beside one of a single one */
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0) {
        perror("sink: cannot listen");
        exit(69);
    }
    return listener;
}

static void map_counts(void)
{
    size_t size = sizeof *totals + options.numbers * sizeof *entries;
    int file = open(options.file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || ftruncate(file, (off_t)size) != 0) {
        perror("sink: cannot make the file of counts");
        exit(73);
    }
    totals = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    entries = (struct entry *)(totals + 1);
}

static void read_options(int count, char **words)
{
    int letter;
    while ((letter = getopt(count, words, "a:p:m:n:l:o:e:w:g")) != -1)
        switch (letter) {
        case 'a': options.address = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'm': options.file = optarg; break;
        case 'n': options.numbers = (size_t)atol(optarg); break;
        case 'l': options.later = optarg; break;
        case 'o': options.directory = optarg; break;
        case 'e': options.every = atoi(optarg); break;
        case 'w': options.takes_ns = (uint64_t)atol(optarg) * 1000000; break;
        case 'g': options.refuses = true; break;
        default: exit(64);
        }
    if (!options.port || !options.file || options.every < 1) {
        fputs("sink needs -p PORT and -m FILE\n", stderr);
        exit(64);
    }
}

int main(int count, char **words)
{
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    read_options(count, words);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    map_counts();
    int listener = listen_at(), poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wanted);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, answer_due(poll));
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr)
                serve(poll, events[i].data.ptr);
            else
                accept_all(listener, poll);
        }
    }
}
