/* A wall clock that is off, by LD_PRELOAD: CLOCK_OFF_S seconds ahead in processes of even number, behind in others.
   What waits or measures uses the monotonic clock, which is left alone. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
    const char *text = getenv("CLOCK_OFF_S");
    long seconds = text ? atol(text) : 0;
    return getpid() % 2 ? -seconds : seconds;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += off();
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, at, zone);
    if (result == 0 && at) at->tv_sec += off();
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
