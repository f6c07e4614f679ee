/* Stands between a program and the C library, counts calls, and lets one of them (or all from one on)
   fail, or a signal arrive there. Loaded with LD_PRELOAD; tests/faults/interposer.py builds and arms it.

   Calls are counted in the process that was armed only. Before that, and in its children, all is as ever. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, NAME = 16, MKDIR = 32, MAP = 64, CUT = 128,
    ALLOCATE = 256, MODE = 512, LOOK = 1024, CLOSE = 2048, TALK = 4096, LIST = 8192, START = 16384
};
enum { FAIL = 0, SHORT = 1, SIGNAL = 2 };
enum { ENTRIES = 4096, TEXT = 160 };

struct shared {
    long sites;       /* calls of the armed kinds so far */
    long fired;       /* calls that failed, or at which the signal was sent */
    long named_memory; /* files opened in /dev/shm */
    long entries;
    char log[ENTRIES][TEXT];
};

static struct { long mask, at, error, on, action, smallest, logs; pid_t pid; } armed;
static struct shared *shared;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

__attribute__((visibility("default"))) void *faults_setup(void) {
    if (!shared)
        shared = (struct shared *)syscall(SYS_mmap, NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared;
}

/* The calls of kinds `mask`, counted from 0: `action` happens at number `at`, and with `on` at all after it. */
__attribute__((visibility("default"))) void faults_arm(long mask, long at, long error, long on, long action,
                                                       long smallest, long logs) {
    faults_setup();
    shared->sites = shared->fired = shared->named_memory = shared->entries = 0;
    armed.mask = mask, armed.at = at, armed.error = error, armed.on = on, armed.action = action;
    armed.smallest = smallest, armed.logs = logs;
    armed.pid = (pid_t)syscall(SYS_getpid);
}

__attribute__((visibility("default"))) void faults_disarm(void) { armed.pid = 0; }

/* Whole numbers in FAULTS arm a program from its first call on; its children get what FAULTS_CHILD says. */
__attribute__((constructor)) static void from_environment(void) {
    const char *text = getenv("FAULTS");
    long v[7] = {0};
    if (!text)
        return;
    if (sscanf(text, "%ld,%ld,%ld,%ld,%ld,%ld,%ld", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]) == 7)
        faults_arm(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
    const char *next = getenv("FAULTS_CHILD");
    if (next)
        setenv("FAULTS", next, 1);
    else
        unsetenv("FAULTS");
    unsetenv("FAULTS_CHILD");
}

static void note(const char *call, const char *what, int fd) {
    char link[64], path[112] = "";
    long at = __sync_fetch_and_add(&shared->entries, 1);
    if (at >= ENTRIES)
        return;
    if (!what && fd >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof path - 1);
        if (n > 0)
            path[n] = 0;
        what = path;
    }
    snprintf(shared->log[at], TEXT, "%s %s", call, what ? what : "");
}

/* The error that calls of a kind end with most often, where none is asked for. */
static int usual(long kind) {
    switch (kind) {
    case OPEN: case LIST: case START: return EMFILE;
    case WRITE: case MKDIR: case CUT: return ENOSPC;
    case NAME: return EACCES;
    case MODE: return EPERM;
    case MAP: case ALLOCATE: return ENOMEM;
    case TALK: return EPIPE;
    default: return EIO;
    }
}

/* Whether this call is the one: then errno is set, and a signal sent. */
static int struck(long kind, const char *call, const char *what, int fd) {
    if (!armed.pid || !(armed.mask & kind) || armed.pid != (pid_t)syscall(SYS_getpid))
        return 0;
    int kept = errno;
    long number = __sync_fetch_and_add(&shared->sites, 1);
    int hit = number == armed.at || (armed.on && armed.at >= 0 && number > armed.at);
    if (armed.logs || number == armed.at)
        note(call, what, fd);
    errno = kept;
    if (!hit)
        return 0;
    __sync_fetch_and_add(&shared->fired, 1);
    if (armed.action == SIGNAL) {
        syscall(SYS_kill, syscall(SYS_getpid), armed.error);
        return 0;
    }
    errno = armed.error ? (int)armed.error : usual(kind);
    return 1;
}

static int is_file(int fd) {
    struct stat status;
    int kept = errno;
    int found = syscall(SYS_fstat, fd, &status) == 0 && S_ISREG(status.st_mode);
    errno = kept;
    return found;
}

/* What is printed is talk, wherever it goes: the message must get out when the disk is full. */
static long moved(int fd, long file) { return fd > 2 && is_file(fd) ? file : TALK; }

#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real)                                                  \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define MODE_ARGUMENT(flags)                                    \
    mode_t mode = 0;                                            \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                      \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode = va_arg(more, mode_t);                            \
        va_end(more);                                           \
    }

static void watch(const char *path) {
    if (shared && armed.pid && path && !strncmp(path, "/dev/shm/", 9))
        __sync_fetch_and_add(&shared->named_memory, 1);
}

#define OPENER(name)                                            \
    int name(const char *path, int flags, ...) {                \
        MODE_ARGUMENT(flags)                                    \
        REAL(int, #name, const char *, int, ...);               \
        watch(path);                                            \
        return struck(OPEN, #name, path, -1) ? -1 : real(path, flags, mode); \
    }
OPENER(open)
OPENER(open64)
#define OPENER_AT(name)                                         \
    int name(int folder, const char *path, int flags, ...) {    \
        MODE_ARGUMENT(flags)                                    \
        REAL(int, #name, int, const char *, int, ...);          \
        watch(path);                                            \
        return struck(OPEN, #name, path, -1) ? -1 : real(folder, path, flags, mode); \
    }
OPENER_AT(openat)
OPENER_AT(openat64)
#define STREAM(name)                                            \
    FILE *name(const char *path, const char *mode) {            \
        REAL(FILE *, #name, const char *, const char *);        \
        return struck(OPEN, #name, path, -1) ? NULL : real(path, mode); \
    }
STREAM(fopen)
STREAM(fopen64)

#define SHORTER(size) (armed.action == SHORT ? ((size) > 1 ? (size) / 2 : (size)) : 0)
#define MOVER(name, kind, buffer)                               \
    ssize_t name(int fd, buffer data, size_t size) {            \
        REAL(ssize_t, #name, int, buffer, size_t);              \
        if (armed.pid && struck(moved(fd, kind), #name, NULL, fd)) { \
            if (armed.action != SHORT)                          \
                return -1;                                      \
            size = SHORTER(size);                               \
        }                                                       \
        return real(fd, data, size);                            \
    }
MOVER(read, READ, void *)
MOVER(write, WRITE, const void *)
#define MOVER_AT(name, kind, buffer, place)                     \
    ssize_t name(int fd, buffer data, size_t size, place at) {  \
        REAL(ssize_t, #name, int, buffer, size_t, place);       \
        if (armed.pid && struck(moved(fd, kind), #name, NULL, fd)) { \
            if (armed.action != SHORT)                          \
                return -1;                                      \
            size = SHORTER(size);                               \
        }                                                       \
        return real(fd, data, size, at);                        \
    }
MOVER_AT(pread, READ, void *, off_t)
MOVER_AT(pread64, READ, void *, off64_t)
MOVER_AT(pwrite, WRITE, const void *, off_t)
MOVER_AT(pwrite64, WRITE, const void *, off64_t)
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return armed.pid && struck(moved(fd, WRITE), "writev", NULL, fd) ? -1 : real(fd, pieces, count);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
    REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t);
    return struck(WRITE, "sendfile64", NULL, out) ? -1 : real(out, in, at, size);
}
ssize_t sendfile(int out, int in, off_t *at, size_t size) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    return struck(WRITE, "sendfile", NULL, out) ? -1 : real(out, in, at, size);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    return struck(WRITE, "copy_file_range", NULL, out) ? -1 : real(in, from, out, to, size, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(ssize_t, "sendmsg", int, const struct msghdr *, int);
    return struck(TALK, "sendmsg", NULL, -1) ? -1 : real(fd, message, flags);
}
ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    REAL(ssize_t, "recvmsg", int, struct msghdr *, int);
    return struck(TALK, "recvmsg", NULL, -1) ? -1 : real(fd, message, flags);
}
ssize_t send(int fd, const void *data, size_t size, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    return struck(TALK, "send", NULL, -1) ? -1 : real(fd, data, size, flags);
}
ssize_t recv(int fd, void *data, size_t size, int flags) {
    REAL(ssize_t, "recv", int, void *, size_t, int);
    return struck(TALK, "recv", NULL, -1) ? -1 : real(fd, data, size, flags);
}

#define ONE(type, fault, name, kind, declared, arguments, what, fd) \
    type name declared {                                        \
        static type(*real) declared;                            \
        if (!real)                                              \
            real = (type(*) declared)dlsym(RTLD_NEXT, #name);   \
        return struck(kind, #name, what, fd) ? fault : real arguments; \
    }
ONE(int, -1, fsync, SYNC, (int fd), (fd), NULL, fd)
ONE(int, -1, fdatasync, SYNC, (int fd), (fd), NULL, fd)
ONE(int, -1, rename, NAME, (const char *a, const char *b), (a, b), b, -1)
ONE(int, -1, renameat, NAME, (int f, const char *a, int g, const char *b), (f, a, g, b), b, -1)
ONE(int, -1, renameat2, NAME, (int f, const char *a, int g, const char *b, unsigned h), (f, a, g, b, h), b, -1)
ONE(int, -1, link, NAME, (const char *a, const char *b), (a, b), b, -1)
ONE(int, -1, linkat, NAME, (int f, const char *a, int g, const char *b, int h), (f, a, g, b, h), b, -1)
ONE(int, -1, symlink, NAME, (const char *a, const char *b), (a, b), b, -1)
ONE(int, -1, unlink, NAME, (const char *a), (a), a, -1)
ONE(int, -1, unlinkat, NAME, (int f, const char *a, int h), (f, a, h), a, -1)
ONE(int, -1, rmdir, NAME, (const char *a), (a), a, -1)
ONE(int, -1, mkdir, MKDIR, (const char *a, mode_t m), (a, m), a, -1)
ONE(int, -1, mkdirat, MKDIR, (int f, const char *a, mode_t m), (f, a, m), a, -1)
ONE(void *, MAP_FAILED, mmap, MAP, (void *a, size_t n, int p, int f, int fd, off_t o), (a, n, p, f, fd, o), NULL, fd)
ONE(void *, MAP_FAILED, mmap64, MAP, (void *a, size_t n, int p, int f, int fd, off64_t o), (a, n, p, f, fd, o), NULL, fd)
ONE(int, -1, ftruncate, CUT, (int fd, off_t n), (fd, n), NULL, fd)
ONE(int, -1, ftruncate64, CUT, (int fd, off64_t n), (fd, n), NULL, fd)
ONE(int, -1, chmod, MODE, (const char *a, mode_t m), (a, m), a, -1)
ONE(int, -1, fchmod, MODE, (int fd, mode_t m), (fd, m), NULL, fd)
ONE(int, -1, fchmodat, MODE, (int f, const char *a, mode_t m, int g), (f, a, m, g), a, -1)
ONE(int, -1, flock, MODE, (int fd, int how), (fd, how), NULL, fd)
ONE(int, -1, stat, LOOK, (const char *a, struct stat *s), (a, s), a, -1)
ONE(int, -1, stat64, LOOK, (const char *a, struct stat64 *s), (a, s), a, -1)
ONE(int, -1, lstat, LOOK, (const char *a, struct stat *s), (a, s), a, -1)
ONE(int, -1, lstat64, LOOK, (const char *a, struct stat64 *s), (a, s), a, -1)
ONE(int, -1, fstat, LOOK, (int fd, struct stat *s), (fd, s), NULL, fd)
ONE(int, -1, fstat64, LOOK, (int fd, struct stat64 *s), (fd, s), NULL, fd)
ONE(int, -1, fstatat, LOOK, (int f, const char *a, struct stat *s, int g), (f, a, s, g), a, -1)
ONE(int, -1, fstatat64, LOOK, (int f, const char *a, struct stat64 *s, int g), (f, a, s, g), a, -1)
ONE(int, -1, __xstat, LOOK, (int v, const char *a, struct stat *s), (v, a, s), a, -1)
ONE(int, -1, __xstat64, LOOK, (int v, const char *a, struct stat64 *s), (v, a, s), a, -1)
ONE(int, -1, __lxstat, LOOK, (int v, const char *a, struct stat *s), (v, a, s), a, -1)
ONE(int, -1, __lxstat64, LOOK, (int v, const char *a, struct stat64 *s), (v, a, s), a, -1)
ONE(int, -1, __fxstat, LOOK, (int v, int fd, struct stat *s), (v, fd, s), NULL, fd)
ONE(int, -1, __fxstat64, LOOK, (int v, int fd, struct stat64 *s), (v, fd, s), NULL, fd)
ONE(int, -1, __fxstatat, LOOK, (int v, int f, const char *a, struct stat *s, int g), (v, f, a, s, g), a, -1)
ONE(int, -1, __fxstatat64, LOOK, (int v, int f, const char *a, struct stat64 *s, int g), (v, f, a, s, g), a, -1)
ONE(DIR *, NULL, opendir, LIST, (const char *a), (a), a, -1)
ONE(DIR *, NULL, fdopendir, LIST, (int fd), (fd), NULL, fd)
ONE(int, -1, memfd_create, START, (const char *a, unsigned f), (a, f), a, -1)
ONE(int, -1, pipe, START, (int *p), (p), NULL, -1)
ONE(int, -1, pipe2, START, (int *p, int f), (p, f), NULL, -1)
ONE(int, -1, socketpair, START, (int d, int t, int p, int *v), (d, t, p, v), NULL, -1)
ONE(pid_t, -1, fork, START, (void), (), NULL, -1)

int close(int fd) { /* the descriptor is closed all the same, as the kernel does */
    REAL(int, "close", int);
    int hit = armed.pid && is_file(fd) && struck(CLOSE, "close", NULL, fd);
    int kept = errno, done = real(fd);
    if (hit)
        errno = kept;
    return hit ? -1 : done;
}

void *malloc(size_t size) {
    if (armed.pid && size >= (size_t)armed.smallest && struck(ALLOCATE, "malloc", NULL, -1))
        return NULL;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    if (armed.pid && count * size >= (size_t)armed.smallest && struck(ALLOCATE, "calloc", NULL, -1))
        return NULL;
    return __libc_calloc(count, size);
}
void *realloc(void *old, size_t size) {
    if (armed.pid && size >= (size_t)armed.smallest && struck(ALLOCATE, "realloc", NULL, -1))
        return NULL;
    return __libc_realloc(old, size);
}
