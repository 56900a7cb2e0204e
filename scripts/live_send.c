/* Sends the frames of a capture by an interface, over and over, as fast as it goes: CAPTURE INTERFACE SECONDS.
 * Prints how many frames it sent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    FILE *file = fopen(words[1], "rb");
    if (!file) return perror(words[1]), 1;
    static char data[64 << 20];
    size_t bytes = fread(data, 1, sizeof data, file), frames = 0;
    struct iovec *parts = calloc(bytes / 16 + BATCH, sizeof *parts);
    for (size_t at = 24; at + 16 <= bytes;) {
        uint32_t kept;
        memcpy(&kept, data + at + 8, 4);
        parts[frames++] = (struct iovec){data + at + 16, kept};
        at += 16 + kept;
    }
    int sender = socket(AF_PACKET, SOCK_RAW, 0), bypass = 1;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(words[2])};
    if (sender < 0 || bind(sender, (struct sockaddr *)&to, sizeof to)) return perror(words[2]), 1;
    /* No queue is waited in on the way to the cable. */
    setsockopt(sender, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof bypass);
    uint64_t sent = 0;
    double end = now() + atof(words[3]);
    for (size_t next = 0; now() < end; next = next < frames ? next : 0) {
        struct mmsghdr batch[BATCH];
        unsigned size = 0;
        memset(batch, 0, sizeof batch);
        for (; size < BATCH && next < frames; next++, size++)
            batch[size].msg_hdr = (struct msghdr){.msg_iov = &parts[next], .msg_iovlen = 1};
        int done = sendmmsg(sender, batch, size, 0);
        sent += done > 0 ? done : 0;
    }
    printf("%llu\n", (unsigned long long)sent);
    return 0;
}
