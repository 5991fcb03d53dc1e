/* The disk between the ledger and its folder, preloaded: writes down what is done to the folder, in order, and fails where
 * the test says so. It needs no rights that a plain container lacks.
 *
 * DISK_FOLDER  the folder, as an absolute path without links
 * DISK_TRACE   the file that gets a record for each operation, after it was done (see trace.rs)
 * DISK_FAULTS  a folder of faults. `full`: "ROOM SUFFIX": ROOM more bytes fit into files of that ending, then no space is left;
 *              `sync-error`: "0 SUFFIX": no file of that ending can be synced
 * DISK_LIES    an ending: files that have it are never synced, but say that they were
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, UNLINK, RENAME, FAILED_SYNC };
enum { FILES = 4096, PATH = 1024 };

struct record {
    uint32_t kind;
    uint32_t file;   /* the descriptor */
    uint64_t at;     /* offset of a write, length of a truncation, position of the trace when a sync began, 1 for a new file */
    uint64_t length; /* of what follows: bytes of a write, names */
};

static char names[FILES][64]; /* "" : not ours; "." : the folder itself */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *faults, *lies;
static int trace = -1;
static uint64_t position;

static void die(const char *what) {
    dprintf(2, "disk shim: %s\n", what);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_TRACE");
    struct stat now;
    folder = getenv("DISK_FOLDER");
    faults = getenv("DISK_FAULTS");
    lies = getenv("DISK_LIES");
    if (folder == NULL || path == NULL) die("DISK_FOLDER and DISK_TRACE must be set");
    trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (trace < 0 || fstat(trace, &now) != 0) die("no trace");
    position = now.st_size;
}

/* The name within the folder; NULL outside of it. */
static const char *name_of(const char *path) {
    size_t length = folder == NULL ? 0 : strlen(folder);
    if (length == 0 || strncmp(path, folder, length) != 0) return NULL;
    if (path[length] == 0) return ".";
    if (path[length] != '/') return NULL;
    if (strchr(path + length + 1, '/') != NULL || strlen(path + length + 1) >= sizeof names[0]) die("a name that it cannot keep");
    return path + length + 1;
}

static const char *name_at(int fd) { return fd >= 0 && fd < FILES && names[fd][0] != 0 ? names[fd] : NULL; }

static int ends(const char *name, const char *suffix) {
    size_t whole = strlen(name), end = strlen(suffix);
    return whole >= end && strcmp(name + whole - end, suffix) == 0;
}

/* With the lock held, so that records stand in the order of what they record. One call, so that no record is half written. */
static void record(uint32_t kind, int fd, uint64_t at, const void *bytes, uint64_t length) {
    struct record head = {kind, fd, at, length};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)bytes, length}};
    int before = errno;
    if (syscall(SYS_writev, trace, parts, 2) != (long)(sizeof head + length)) die("the trace cannot be written");
    position += sizeof head + length;
    errno = before;
}

/* Reads a fault: 1 where it concerns the name. `id` tells one fault from the next. */
static int fault(const char *kind, const char *name, long long *number, uint64_t *id) {
    char path[PATH], text[96] = {0}, suffix[64] = {0};
    struct stat now;
    int before = errno, found = 0, fd;
    if (faults == NULL) return 0;
    snprintf(path, sizeof path, "%s/%s", faults, kind);
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (fstat(fd, &now) == 0 && syscall(SYS_read, fd, text, sizeof text - 1) > 0) {
            sscanf(text, "%lld %63s", number, suffix);
            *id = now.st_mtim.tv_sec * 1000000000ull + now.st_mtim.tv_nsec;
            found = ends(name, suffix);
        }
        syscall(SYS_close, fd);
    }
    errno = before;
    return found;
}

/* How many of the bytes fit; with the lock held. */
static size_t fits(const char *name, size_t length) {
    static uint64_t known;
    static long long room;
    long long fresh = 0;
    uint64_t id = 0;
    if (!fault("full", name, &fresh, &id)) return length;
    if (id != known) {
        known = id;
        room = fresh;
    }
    if ((long long)length > room) length = room;
    room -= length;
    return length;
}

static ssize_t put(int fd, const void *bytes, size_t length, off_t at) {
    ssize_t done;
    size_t room;
    pthread_mutex_lock(&lock);
    room = fits(names[fd], length);
    if (room == 0 && length > 0) {
        errno = ENOSPC;
        done = -1;
    } else {
        done = syscall(SYS_pwrite64, fd, bytes, room, at);
    }
    if (done > 0) record(WRITE, fd, at, bytes, done);
    pthread_mutex_unlock(&lock);
    return done;
}

static int sync_file(int fd, long call) {
    const char *name = name_at(fd);
    long long number;
    uint64_t began, id;
    int done;
    if (name == NULL) return syscall(call, fd);
    if (lies != NULL && ends(name, lies)) return 0;
    pthread_mutex_lock(&lock);
    began = position;
    pthread_mutex_unlock(&lock);
    if (fault("sync-error", name, &number, &id)) {
        errno = EIO;
        done = -1;
    } else {
        done = syscall(call, fd);
    }
    pthread_mutex_lock(&lock);
    record(done == 0 ? SYNC : FAILED_SYNC, fd, began, "", 0);
    pthread_mutex_unlock(&lock);
    return done;
}

static int open_file(int at, const char *path, int flags, mode_t mode) {
    const char *name = at == AT_FDCWD || path[0] == '/' ? name_of(path) : NULL;
    struct stat before;
    int fd, made;
    if (name == NULL) return syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    made = stat(path, &before) != 0;
    fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= FILES) die("too many files");
    if (fd >= 0) {
        strcpy(names[fd], name);
        record(OPEN, fd, made, name, strlen(name));
        if (flags & O_TRUNC) record(TRUNCATE, fd, 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

/* From here on what the program calls. */

#define MODE(flags, mode)                                                                                                  \
    mode_t mode = 0;                                                                                                       \
    if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                  \
        va_list rest;                                                                                                      \
        va_start(rest, flags);                                                                                             \
        mode = va_arg(rest, int);                                                                                          \
        va_end(rest);                                                                                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_file(at, path, flags, mode);
}
int creat(const char *path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    if (name_at(fd) != NULL) names[fd][0] = 0;
    return syscall(SYS_close, fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return name_at(fd) == NULL ? syscall(SYS_pwrite64, fd, bytes, length, at) : put(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return pwrite(fd, bytes, length, at); }

ssize_t write(int fd, const void *bytes, size_t length) {
    ssize_t done;
    if (name_at(fd) == NULL) return syscall(SYS_write, fd, bytes, length);
    done = put(fd, bytes, length, lseek(fd, 0, SEEK_CUR));
    if (done > 0) lseek(fd, done, SEEK_CUR);
    return done;
}

int ftruncate(int fd, off_t length) {
    int done;
    if (name_at(fd) == NULL) return syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    done = syscall(SYS_ftruncate, fd, length);
    if (done == 0) record(TRUNCATE, fd, length, "", 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

int unlink(const char *path) {
    const char *name = name_of(path);
    int done;
    if (name == NULL) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (done == 0) record(UNLINK, 0, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    const char *old = name_of(from), *new = name_of(to);
    char both[2 * sizeof names[0]];
    int done;
    if (old == NULL && new == NULL) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (old == NULL || new == NULL) die("a file that moves in or out");
    pthread_mutex_lock(&lock);
    done = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (done == 0) {
        snprintf(both, sizeof both, "%s/%s", old, new);
        record(RENAME, 0, 0, both, strlen(both));
    }
    pthread_mutex_unlock(&lock);
    return done;
}

/* What would change the folder unseen. */

#define UNSEEN(fd, what)                                                                                                   \
    if (name_at(fd) != NULL) die(what " is not watched")

ssize_t writev(int fd, const struct iovec *parts, int count) {
    UNSEEN(fd, "writev");
    return syscall(SYS_writev, fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    UNSEEN(fd, "pwritev");
    return syscall(SYS_pwritev, fd, parts, count, at, 0);
}
int fallocate(int fd, int mode, off_t at, off_t length) {
    UNSEEN(fd, "fallocate");
    return syscall(SYS_fallocate, fd, mode, at, length);
}
int posix_fallocate(int fd, off_t at, off_t length) {
    UNSEEN(fd, "posix_fallocate");
    return fallocate(fd, 0, at, length) == 0 ? 0 : errno;
}
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    UNSEEN(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
}
ssize_t sendfile(int to, int from, off_t *at, size_t length) {
    UNSEEN(to, "sendfile");
    return syscall(SYS_sendfile, to, from, at, length);
}
