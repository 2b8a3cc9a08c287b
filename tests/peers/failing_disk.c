/* peers.failing_disk: the disk's system calls, some of which fail, stall or end the process. Loaded with LD_PRELOAD.
 *
 * The file that FAILING_DISK names holds rules, one a line (failing_disk.py writes them):
 *
 *     CALL OUTCOME AFTER TIMES SECONDS PATH
 *
 * CALL: fsync, fdatasync, sync (either), write (and pwrite), open (and openat), rename, unlink, ftruncate or fallocate.
 * OUTCOME: the number of an errno, 0 to go on, -1 to end the process as kill -9 does, -2 for a sync that says that all
 * is well and does nothing. AFTER: so many calls pass first. TIMES: so many are met then, 0 for all. SECONDS: to wait
 * before the outcome. PATH: a part of the file's path, or with `$` its end; `*` is any. The first rule that meets a call
 * decides. A call that fails does nothing: no data has been written or synced.
 *
 * The file is replaced as a whole while processes run, and is read again when it is another one. What was met is
 * appended to the file beside it, with `.met` after its name: the number of the rule, the process, the path. Counts are
 * each process's own. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MOST_RULES = 32, MOST_OCTETS = 16384, DIES = -1, LIES = -2 };

struct rule {
    char call[16];
    char path[256];
    int outcome;
    long after, times, seen;
    double seconds;
};

static struct rule rules[MOST_RULES];
static int count;
static ino_t known_inode;
static struct timespec known_time;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void prepare(void) { pthread_atfork(before_fork, after_fork, after_fork); }

static void parse(char *text) {
    char *rest = NULL;
    count = 0;
    for (char *line = strtok_r(text, "\n", &rest); line && count < MOST_RULES; line = strtok_r(NULL, "\n", &rest)) {
        struct rule *rule = &rules[count];
        memset(rule, 0, sizeof *rule);
        if (sscanf(line, "%15s %d %ld %ld %lf %255[^\n]", rule->call, &rule->outcome, &rule->after, &rule->times,
                   &rule->seconds, rule->path) == 6)
            count++;
    }
}

/* Raw system calls: what is called here must not meet the rules. */
static void read_rules(const char *control) {
    static char text[MOST_OCTETS];
    struct stat now;
    if (stat(control, &now) != 0)
        return;
    if (now.st_ino == known_inode && now.st_mtim.tv_sec == known_time.tv_sec && now.st_mtim.tv_nsec == known_time.tv_nsec)
        return;
    int descriptor = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    ssize_t octets = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (octets < 0)
        return;
    text[octets] = '\0';
    known_inode = now.st_ino;
    known_time = now.st_mtim;
    parse(text);
}

static void tell(const char *control, const struct rule *rule, const char *path) {
    char name[PATH_MAX], line[PATH_MAX + 64];
    snprintf(name, sizeof name, "%s.met", control);
    int octets = snprintf(line, sizeof line, "%d %d %s\n", (int)(rule - rules), (int)getpid(), path);
    int descriptor = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return;
    syscall(SYS_write, descriptor, line, (size_t)octets);
    close(descriptor);
}

static int is_of(const struct rule *rule, const char *call) {
    return strcmp(rule->call, call) == 0 || (strcmp(rule->call, "sync") == 0 && strstr(call, "sync") != NULL);
}

static int is_at(const struct rule *rule, const char *path) {
    size_t wanted = strlen(rule->path), size = strlen(path);
    if (strcmp(rule->path, "*") == 0)
        return 1;
    if (rule->path[wanted - 1] != '$')
        return strstr(path, rule->path) != NULL;
    return size >= wanted - 1 && strncmp(path + size - (wanted - 1), rule->path, wanted - 1) == 0;
}

static int is_met(struct rule *rule, const char *call, const char *path) {
    if (!is_of(rule, call) || !is_at(rule, path))
        return 0;
    long number = rule->seen++ - rule->after;
    return number >= 0 && (rule->times == 0 || number < rule->times);
}

/* 0, or the errno that the call is to fail with. */
static int met(const char *call, const char *path) {
    const char *control = getenv("FAILING_DISK");
    struct rule found = {0};
    int before = errno, is_found = 0;
    if (control == NULL)
        return 0;
    pthread_mutex_lock(&lock);
    read_rules(control);
    for (int n = 0; n < count && !is_found; n++)
        if (is_met(&rules[n], call, path)) {
            found = rules[n];
            is_found = 1;
            tell(control, &rules[n], path);
        }
    pthread_mutex_unlock(&lock);
    if (is_found && found.seconds > 0) {
        struct timespec wait = {(time_t)found.seconds, (long)((found.seconds - (time_t)found.seconds) * 1e9)};
        nanosleep(&wait, NULL);
    }
    if (is_found && found.outcome == DIES)
        kill(getpid(), SIGKILL);
    errno = before;
    return is_found ? found.outcome : 0;
}

static int met_by_descriptor(const char *call, int descriptor) {
    char link[64], path[PATH_MAX];
    if (getenv("FAILING_DISK") == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t octets = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (octets < 1 || path[0] != '/') /* a socket or a pipe */
        return 0;
    path[octets] = '\0';
    return met(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FAILS(error, value)                                                                                             \
    do {                                                                                                               \
        int fails_with = (error);                                                                                      \
        if (fails_with) {                                                                                              \
            errno = fails_with;                                                                                        \
            return value;                                                                                              \
        }                                                                                                              \
    } while (0)

/* A disk that lies says that all is well, and has done nothing. */
#define SYNC(name)                                                                                                      \
    int name(int descriptor) {                                                                                         \
        int outcome = met_by_descriptor(#name, descriptor);                                                            \
        if (outcome == LIES)                                                                                           \
            return 0;                                                                                                  \
        FAILS(outcome, -1);                                                                                            \
        return NEXT(name)(descriptor);                                                                                 \
    }

SYNC(fsync)
SYNC(fdatasync)

ssize_t write(int descriptor, const void *octets, size_t size) {
    FAILS(met_by_descriptor("write", descriptor), -1);
    return NEXT(write)(descriptor, octets, size);
}

ssize_t pwrite(int descriptor, const void *octets, size_t size, off_t at) {
    FAILS(met_by_descriptor("write", descriptor), -1);
    return NEXT(pwrite)(descriptor, octets, size, at);
}

ssize_t pwrite64(int descriptor, const void *octets, size_t size, off64_t at) {
    FAILS(met_by_descriptor("write", descriptor), -1);
    return NEXT(pwrite64)(descriptor, octets, size, at);
}

int ftruncate(int descriptor, off_t size) {
    FAILS(met_by_descriptor("ftruncate", descriptor), -1);
    return NEXT(ftruncate)(descriptor, size);
}

int ftruncate64(int descriptor, off64_t size) {
    FAILS(met_by_descriptor("ftruncate", descriptor), -1);
    return NEXT(ftruncate64)(descriptor, size);
}

/* Unlike the others it returns its errno. */
int posix_fallocate(int descriptor, off_t at, off_t size) {
    int error = met_by_descriptor("fallocate", descriptor);
    return error ? error : NEXT(posix_fallocate)(descriptor, at, size);
}

int posix_fallocate64(int descriptor, off64_t at, off64_t size) {
    int error = met_by_descriptor("fallocate", descriptor);
    return error ? error : NEXT(posix_fallocate64)(descriptor, at, size);
}

#define MODE_OF(flags)                                                                                                  \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                           \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode = va_arg(arguments, mode_t);                                                                              \
        va_end(arguments);                                                                                             \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    FAILS(met("open", path), -1);
    return NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    FAILS(met("open", path), -1);
    return NEXT(open64)(path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    MODE_OF(flags)
    FAILS(met("open", path), -1);
    return NEXT(openat)(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE_OF(flags)
    FAILS(met("open", path), -1);
    return NEXT(openat64)(directory, path, flags, mode);
}

int rename(const char *from, const char *to) {
    FAILS(met("rename", to), -1);
    return NEXT(rename)(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    FAILS(met("rename", to), -1);
    return NEXT(renameat)(from_directory, from, to_directory, to);
}

int unlink(const char *path) {
    FAILS(met("unlink", path), -1);
    return NEXT(unlink)(path);
}

int unlinkat(int directory, const char *path, int flags) {
    FAILS(met("unlink", path), -1);
    return NEXT(unlinkat)(directory, path, flags);
}
