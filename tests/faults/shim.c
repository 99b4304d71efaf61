/* Copies a folder before every system call that changes it: the states that a SIGKILL may leave.
 *
 * LD_PRELOAD this with FAULTS_WATCH=FOLDER and FAULTS_INTO=FOLDER; the copies are INTO/000000, ...
 * What has not been passed to the kernel is in no copy, as it would be lost with the process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int copying;
static int count;

static void fail(const char *what, const char *path) {
  fprintf(stderr, "shim: %s %s\n", what, path);
  abort();
}

static void copy_file(const char *from, const char *to) {
  char buffer[65536];
  ssize_t n;
  int in = syscall(SYS_openat, AT_FDCWD, from, O_RDONLY);
  int out = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (in < 0 || out < 0) fail("copy", from);
  while ((n = syscall(SYS_read, in, buffer, sizeof buffer)) > 0)
    if (syscall(SYS_write, out, buffer, n) != n) fail("write", to);
  close(in);
  close(out);
}

static void copy_tree(const char *from, const char *to) {
  struct dirent *entry;
  DIR *folder = opendir(from);
  if (!folder) fail("open", from);
  if (syscall(SYS_mkdirat, AT_FDCWD, to, 0755)) fail("mkdir", to);
  while ((entry = readdir(folder))) {
    char source[PATH_MAX], target[PATH_MAX];
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
    snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
    if (entry->d_type == DT_DIR) copy_tree(source, target);
    else copy_file(source, target);
  }
  closedir(folder);
}

static int watched(const char *path) {
  const char *watch = getenv("FAULTS_WATCH");
  return watch && path && !strncmp(path, watch, strlen(watch));
}

static int watched_at(int folder, const char *path) {
  char place[PATH_MAX], name[64];
  if (path && path[0] == '/') return watched(path);
  snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
  ssize_t n = folder == AT_FDCWD ? -1 : readlink(name, place, sizeof place - 1);
  if (n < 0) return 0;
  place[n] = 0;
  return watched(place);
}

static int watched_fd(int fd) { return watched_at(fd, NULL); }

/* Until after(): else a copy would meet what other threads do to the tree meanwhile, half of it. */
static int before(int concerned) {
  char target[PATH_MAX];
  if (!concerned || copying) return 0;
  copying = 1;
  pthread_mutex_lock(&lock);
  snprintf(target, sizeof target, "%s/%06d", getenv("FAULTS_INTO"), count++);
  copy_tree(getenv("FAULTS_WATCH"), target);
  return 1;
}

static void after(int held) {
  if (!held) return;
  pthread_mutex_unlock(&lock);
  copying = 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define DO(type, concerned, call) int held = before(concerned); type done = call; after(held); return done;
#define WRAP(type, name, params, concerned, args) \
  type name params { DO(type, concerned, REAL(name) args) }

WRAP(ssize_t, write, (int fd, const void *b, size_t n), watched_fd(fd), (fd, b, n))
WRAP(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), watched_fd(fd), (fd, b, n, o))
WRAP(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), watched_fd(fd), (fd, b, n, o))
WRAP(ssize_t, writev, (int fd, const struct iovec *v, int n), watched_fd(fd), (fd, v, n))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o), watched_fd(fd), (fd, v, n, o))
WRAP(int, ftruncate, (int fd, off_t n), watched_fd(fd), (fd, n))
WRAP(int, ftruncate64, (int fd, off64_t n), watched_fd(fd), (fd, n))
WRAP(int, truncate, (const char *p, off_t n), watched(p), (p, n))
WRAP(int, rename, (const char *a, const char *b), watched(a) || watched(b), (a, b))
WRAP(int, renameat, (int d, const char *a, int e, const char *b),
     watched_at(d, a) || watched_at(e, b), (d, a, e, b))
WRAP(int, renameat2, (int d, const char *a, int e, const char *b, unsigned f),
     watched_at(d, a) || watched_at(e, b), (d, a, e, b, f))
WRAP(int, link, (const char *a, const char *b), watched(b), (a, b))
WRAP(int, symlink, (const char *a, const char *b), watched(b), (a, b))
WRAP(int, unlink, (const char *p), watched(p), (p))
WRAP(int, unlinkat, (int d, const char *p, int f), watched_at(d, p), (d, p, f))
WRAP(int, rmdir, (const char *p), watched(p), (p))
WRAP(int, remove, (const char *p), watched(p), (p))
WRAP(int, mkdir, (const char *p, mode_t m), watched(p), (p, m))
WRAP(int, mkdirat, (int d, const char *p, mode_t m), watched_at(d, p), (d, p, m))

#define OPEN(name, params, concerned, args) \
  int name params { \
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
    DO(int, (flags & (O_CREAT | O_TRUNC)) && (concerned), REAL(name) args) \
  }
OPEN(open, (const char *p, int flags, ...), watched(p), (p, flags, mode))
OPEN(open64, (const char *p, int flags, ...), watched(p), (p, flags, mode))
OPEN(openat, (int d, const char *p, int flags, ...), watched_at(d, p), (d, p, flags, mode))
OPEN(openat64, (int d, const char *p, int flags, ...), watched_at(d, p), (d, p, flags, mode))
FILE *fopen(const char *p, const char *m) { DO(FILE *, watched(p) && m[0] != 'r', REAL(fopen)(p, m)) }
FILE *fopen64(const char *p, const char *m) { DO(FILE *, watched(p) && m[0] != 'r', REAL(fopen64)(p, m)) }
