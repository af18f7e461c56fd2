/* A wall clock that is off by as many nanoseconds as the file $STEPPED_CLOCK says, an int64 that may
   change at any time; preloaded. CLOCK_MONOTONIC is as ever. Whoever waits for an instant of the wall
   clock waits until it is then, as the kernel has it: for longer, if the clock goes back meanwhile. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

#define SECOND 1000000000LL
#define LOOKS_EVERY (SECOND / 50)
#define IS_WALL_CLOCK(at) ((at)->tv_sec > SECOND) /* nobody's monotonic clock is at 30 years */

static int (*real_gettime)(clockid_t, struct timespec *);
static const volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(getenv("STEPPED_CLOCK"), O_RDONLY);
    offset = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (offset == MAP_FAILED) {
        perror("STEPPED_CLOCK");
        abort();
    }
}

static int64_t in_ns(const struct timespec *at) { return at->tv_sec * SECOND + at->tv_nsec; }

static struct timespec as_timespec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / SECOND, .tv_nsec = ns % SECOND};
}

static int64_t real_ns(clockid_t clock) {
    struct timespec now;
    real_gettime(clock, &now);
    return in_ns(&now);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!offset || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return real_gettime ? real_gettime(clock, now) : EINVAL;
    *now = as_timespec(real_ns(clock) + *offset);
    return 0;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    *now = (struct timeval){.tv_sec = at.tv_sec, .tv_usec = at.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *now) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (now)
        *now = at.tv_sec;
    return at.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    if (!IS_WALL_CLOCK(until))
        return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, until);
    for (;;) {
        int64_t left = in_ns(until) - real_ns(CLOCK_REALTIME) - *offset;
        if (left <= 0)
            return ETIMEDOUT;
        int64_t look = real_ns(CLOCK_MONOTONIC) + (left < LOOKS_EVERY ? left : LOOKS_EVERY);
        struct timespec at = as_timespec(look);
        int woken = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &at);
        if (woken != ETIMEDOUT)
            return woken;
    }
}

/* librdkafka's; the C library has it call the one above by a way that nobody can be put in. */
int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
    switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
