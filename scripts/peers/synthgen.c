/* synthgen - deterministic synthetic packet trace generator (own code, no third-party source).
 *
 *   gcc -O2 -o synthgen synthgen.c -lm
 *   ./synthgen --flows 1000000 --snaplen 128 --seed 1 --duration 100 --out t.pcap [--labels t.csv]
 *
 * Flow mix (per new flow; every flow has a unique 5-tuple, both directions present):
 *   UDP 60 %:  39 % request/response (2 packets), 15 % 3-5 packets, 6 % QUIC-like Pareto
 *   TCP 40 %:   4 % lone SYN, 36 % handshake + request + Pareto response + ACKs + FIN
 * 10 % of flows are IPv6.  Clients Zipf(0.9) of 50 000, servers Zipf(1.0) of 20 000.
 * ~8 packets a flow, median 3.  Checksums are right (payload past the written bytes is zero).
 * Frames up to 1514 bytes; the file holds min(frame, snaplen) bytes (0 = whole frame).
 * Link type Ethernet, microsecond pcap, little endian.  11 application classes drive ports,
 * TTLs, windows and sizes loosely, so a label can be learnt from the headers.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t s[4];
static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static inline uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
static inline uint64_t rnd(void) {
    uint64_t r = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return r;
}
static inline double u01(void) { return ((rnd() >> 11) + 0.5) * (1.0 / 9007199254740992.0); }
static inline uint32_t below(uint32_t n) { return (uint32_t)(((rnd() >> 32) * (uint64_t)n) >> 32); }
static double expo(double m) { return -m * log(u01()); }
static int pareto(double a, int lo, int hi) {
    double v = lo / pow(u01(), 1.0 / a);
    return v > hi ? hi : (int)v;
}

typedef struct {
    uint64_t ts;
    uint32_t idx, flow, seq, ack;
    uint16_t plen;
    uint8_t flags, dir;
} Ev; /* 32 bytes */
typedef struct {
    uint32_t cip, sip;
    uint16_t cport, sport;
    uint8_t proto, v6, app, cttl;
    uint8_t sttl, cls;
    uint16_t cwin, swin;
    uint16_t ipid_c, ipid_s;
    uint32_t tsv;
} Flow;
static Ev *ev;
static uint64_t nev, cap;
static void push(uint32_t f, uint64_t ts, int dir, int flags, uint32_t seq, uint32_t ack,
                 int plen) {
    if (nev == cap) {
        cap = cap ? cap * 2 : 1 << 20;
        ev = realloc(ev, cap * sizeof *ev);
        if (!ev) {
            perror("mem");
            exit(1);
        }
    }
    ev[nev] = (Ev){ts, (uint32_t)nev, f, seq, ack, (uint16_t)plen, (uint8_t)flags, (uint8_t)dir};
    nev++;
}
static int cmp(const void *a, const void *b) {
    const Ev *x = a, *y = b;
    if (x->ts != y->ts)
        return x->ts < y->ts ? -1 : 1;
    return x->idx < y->idx ? -1 : 1;
}
static double *zipf_cdf(int n, double e) {
    double *c = malloc(n * sizeof *c), t = 0;
    for (int i = 0; i < n; i++) {
        t += 1 / pow(i + 1, e);
        c[i] = t;
    }
    for (int i = 0; i < n; i++)
        c[i] /= t;
    return c;
}
static int zipf(const double *c, int n) {
    double u = u01();
    int lo = 0, hi = n - 1;
    while (lo < hi) {
        int m = (lo + hi) / 2;
        if (c[m] < u)
            lo = m + 1;
        else
            hi = m;
    }
    return lo;
}
static uint32_t mix32(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352d;
    x ^= x >> 15;
    x *= 0x846ca68b;
    return x ^ (x >> 16);
}

/* per-app: server port tcp, udp, client ttl, server ttl, client window, request size, response
 * scale */
static const struct {
    const char *n;
    uint16_t tp, up;
    uint8_t ct, st;
    uint16_t cw;
    uint16_t rq;
    double sc;
} A[11] = {
    {"web", 443, 443, 64, 56, 64240, 517, 2.2},      {"http", 80, 80, 128, 52, 65535, 380, 1.8},
    {"video", 443, 443, 64, 118, 65535, 517, 5.0},   {"mail", 993, 123, 128, 54, 8192, 220, 1.4},
    {"dns", 53, 53, 64, 60, 29200, 48, 1.0},         {"ssh", 22, 60001, 64, 64, 64240, 90, 1.6},
    {"game", 3074, 3478, 128, 110, 16384, 120, 1.3}, {"voip", 5061, 5060, 64, 58, 29200, 420, 1.7},
    {"p2p", 6881, 6881, 128, 114, 65535, 110, 2.6},  {"iot", 8883, 5683, 255, 244, 5840, 70, 1.0},
    {"cloud", 8443, 443, 64, 239, 42340, 600, 3.0}};

static uint8_t buf[2048];
static inline void p16(uint8_t *p, uint16_t v) {
    p[0] = v >> 8;
    p[1] = v;
}
static inline void p32(uint8_t *p, uint32_t v) {
    p[0] = v >> 24;
    p[1] = v >> 16;
    p[2] = v >> 8;
    p[3] = v;
}
static uint32_t sum(const uint8_t *p, int n, uint32_t a) {
    for (; n > 1; p += 2, n -= 2)
        a += (p[0] << 8) | p[1];
    if (n)
        a += p[0] << 8;
    return a;
}
static uint16_t fold(uint32_t a) {
    while (a >> 16)
        a = (a & 0xffff) + (a >> 16);
    return ~a;
}
static void addr6(uint8_t *p, uint32_t a, int srv) {
    static const uint8_t pre[8] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0};
    memcpy(p, pre, 8);
    p[4] = srv ? 0xff : 1;
    p32(p + 8, mix32(a ^ 0x5bd1e995));
    p32(p + 12, a);
}
static int l7(uint8_t *p, const Flow *f, const Ev *e,
              int room) { /* writes at most room bytes of payload */
    if (!e->plen)
        return 0;
    int n = e->plen < room ? e->plen : room;
    if (n > 96)
        n = 96;
    uint32_t x = mix32(e->flow * 2654435761u + e->seq);
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = x >> 24;
    }
    int first = e->flags & 0x80; /* marks first data packet of a direction */
    if (f->proto == 17 && f->sport == 53 && n >= 20) {
        p16(p, (uint16_t)mix32(e->flow));
        p16(p + 2, e->dir ? 0x8180 : 0x0100);
        p16(p + 4, 1);
        p16(p + 6, e->dir ? 1 : 0);
        p16(p + 8, 0);
        p16(p + 10, 0);
        int k = n - 12 - 5 - 4;
        if (k < 3)
            k = 3;
        if (k > 20)
            k = 20;
        p[12] = k;
        for (int i = 0; i < k; i++)
            p[13 + i] = 'a' + (mix32(e->flow + i * 77) % 26);
        uint8_t *q = p + 13 + k;
        if (q + 9 <= p + n) {
            memcpy(q, "\3com\0\0\1\0\1", 9);
        }
    } else if (f->proto == 17 && f->sport == 123 && n >= 48) {
        p[0] = e->dir ? 0x24 : 0x23;
        p[1] = e->dir ? 2 : 0;
        p[2] = 6;
        p[3] = 0xec;
    } else if (first && f->proto == 17 && f->sport == 443 && n >= 20) {
        p[0] = e->dir ? 0xc5 : 0xc3;
        p32(p + 1, 1);
        p[5] = 8;
    } else if (first && f->proto == 6 &&
               (f->sport == 443 || f->sport == 8443 || f->sport == 993 || f->sport == 8883) &&
               n >= 60) {
        int L = e->plen > 16000 ? 16000 : e->plen;
        p[0] = 0x16;
        p[1] = 3;
        p[2] = e->dir ? 3 : 1;
        p16(p + 3, L - 5);
        p[5] = e->dir ? 2 : 1;
        p[6] = 0;
        p16(p + 7, L - 9);
        p[9] = 3;
        p[10] = 3;
        p[43] = 0;
        if (!e->dir) {
            p16(p + 44, 8);
            memcpy(p + 46, "\x13\x01\x13\x02\xc0\x2b\xc0\x2f", 8);
            p[54] = 1;
            p[55] = 0;
            p16(p + 56, L - 58);
        } else {
            p16(p + 44, 0x1301);
            p[46] = 0;
        }
    } else if (first && f->proto == 6 && f->sport == 80 && n >= 40) {
        const char *t = e->dir
                            ? "HTTP/1.1 200 OK\r\nServer: synth\r\nContent-Type: text/html\r\n\r\n"
                            : "GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: "
                              "synth/1.0\r\n\r\n";
        int m = strlen(t);
        memcpy(p, t, m < n ? m : n);
    } else if (first && f->proto == 6 && f->sport == 22 && n >= 24)
        memcpy(p, "SSH-2.0-OpenSSH_9.2p1\r\n", 23);
    return n;
}

int main(int c, char **v) {
    uint32_t F = 1000000;
    int snap = 128;
    uint64_t seed = 1;
    double dur = 100;
    const char *out = NULL, *lab = NULL;
    for (int i = 1; i + 1 < c; i += 2) {
        if (!strcmp(v[i], "--flows"))
            F = atoi(v[i + 1]);
        else if (!strcmp(v[i], "--snaplen"))
            snap = atoi(v[i + 1]);
        else if (!strcmp(v[i], "--seed"))
            seed = strtoull(v[i + 1], 0, 10);
        else if (!strcmp(v[i], "--duration"))
            dur = atof(v[i + 1]);
        else if (!strcmp(v[i], "--out"))
            out = v[i + 1];
        else if (!strcmp(v[i], "--labels"))
            lab = v[i + 1];
        else {
            fprintf(stderr, "bad option %s\n", v[i]);
            return 2;
        }
    }
    if (!out) {
        fprintf(stderr, "--out needed\n");
        return 2;
    }
    uint64_t z = seed;
    for (int i = 0; i < 4; i++)
        s[i] = splitmix(&z);
    enum { NC = 50000, NS = 20000 };
    double *zc = zipf_cdf(NC, 0.9), *zs = zipf_cdf(NS, 1.0);
    uint32_t *ctr = calloc(NC, 4);
    Flow *fl = calloc(F, sizeof *fl);
    double t = 0;
    uint64_t dropped_ports = 0;
    for (uint32_t i = 0; i < F; i++) {
        t += expo(dur / F);
        Flow *f = &fl[i];
        uint32_t ci;
        do {
            ci = zipf(zc, NC);
        } while (ctr[ci] >= 63000);
        int si = zipf(zs, NS);
        f->cip = 0x0a000000u | ((ci * 37u + 11) & 0xffffff);
        f->sip = 0xc6120000u | (si & 0x1ffff); /* 198.18.0.0/15 benchmark range */
        f->cport = 1024 + (mix32(ci) + ctr[ci]++) % 64000;
        f->v6 = u01() < 0.10;
        double m = u01();
        int kind; /* 0 rr,1 short,2 quic,3 syn,4 tcp */
        kind = m < 0.39 ? 0 : m < 0.54 ? 1 : m < 0.60 ? 2 : m < 0.64 ? 3 : 4;
        f->proto = kind < 3 ? 17 : 6;
        double a = u01();
        if (kind == 0)
            f->app = a < 0.80 ? 4 : a < 0.90 ? 3 : 9;
        else if (kind == 1)
            f->app = a < 0.3 ? 6 : a < 0.6 ? 7 : a < 0.8 ? 8 : a < 0.9 ? 5 : 4;
        else if (kind == 2)
            f->app = a < 0.5 ? 0 : a < 0.8 ? 2 : 10;
        else
            f->app = a < 0.42   ? 0
                     : a < 0.54 ? 1
                     : a < 0.64 ? 2
                     : a < 0.70 ? 3
                     : a < 0.74 ? 5
                     : a < 0.78 ? 6
                     : a < 0.81 ? 7
                     : a < 0.88 ? 8
                     : a < 0.92 ? 9
                                : 10;
        f->sport = f->proto == 6 ? A[f->app].tp : A[f->app].up;
        f->cttl = A[f->app].ct - (below(10) < 3 ? below(8) : 0);
        f->sttl = A[f->app].st - below(6);
        f->cwin = below(10) < 8 ? A[f->app].cw : 1024 + below(60000);
        f->swin = below(2) ? 65160 : 28960 + below(8192);
        f->ipid_c = rnd();
        f->ipid_s = below(2) ? rnd() : 0;
        f->tsv = rnd();
        double T = t * 1e6, rtt = 2000 + expo(40000);
        uint32_t cs = rnd(), ss = rnd();
        uint64_t p = (uint64_t)T;
#define STEP(us) (p += 1 + (uint64_t)(us))
        if (kind == 0) {
            push(i, p, 0, 0x80, 0, 0, A[f->app].up == 123 ? 48 : 20 + A[f->app].rq / 2 + below(24));
            STEP(rtt);
            push(i, p, 1, 0x80, 0, 0, A[f->app].up == 123 ? 48 : 40 + below(300));
        } else if (kind == 1) {
            int n = 3 + (below(4) == 0) + (below(8) == 0);
            for (int k = 0; k < n; k++) {
                push(i, p, k & 1, k < 2 ? 0x80 : 0, 0, 0, 30 + below(A[f->app].rq * 2));
                STEP(rtt * (0.5 + u01()));
            }
        } else if (kind == 2) {
            int n = pareto(1.15, 4, 400);
            push(i, p, 0, 0x80, 0, 0, 1200);
            STEP(rtt);
            push(i, p, 1, 0x80, 0, 0, 1200);
            for (int k = 2; k < n; k++) {
                STEP(k % 4 == 2 ? rtt * u01() : 20 + expo(400));
                push(i, p, (k % 4) != 3, 0, 0, 0, (k % 4) != 3 ? 1200 : 30 + below(20));
            }
        } else if (kind == 3) {
            push(i, p, 0, 0x02, cs, 0, 0);
        } else {
            push(i, p, 0, 0x02, cs, 0, 0);
            cs++;
            STEP(rtt);
            push(i, p, 1, 0x12, ss, cs, 0);
            ss++;
            STEP(20 + expo(200));
            push(i, p, 0, 0x10, cs, ss, 0);
            STEP(30 + expo(800));
            int rq = A[f->app].rq / 2 + below(A[f->app].rq + 1);
            if (rq < 62)
                rq = 62;
            if (rq > 1448)
                rq = 1448;
            push(i, p, 0, 0x98, cs, ss, rq);
            cs += rq;
            STEP(rtt * (1 + u01()));
            int n = pareto(1.08, 1, (int)(120 * A[f->app].sc));
            int first = 0x80;
            for (int k = 0; k < n; k++) {
                int L = k == n - 1 ? 64 + below(1384) : 1448;
                push(i, p, 1, first | (k == n - 1 ? 0x18 : 0x10), ss, cs, L);
                first = 0;
                ss += L;
                STEP(12 + expo(150));
                if (k & 1) {
                    push(i, p, 0, 0x10, cs, ss, 0);
                    STEP(20);
                }
                if (k % 16 == 15)
                    STEP(rtt);
            }
            if (n & 1) {
                push(i, p, 0, 0x10, cs, ss, 0);
                STEP(20 + expo(3000));
            }
            if (below(4) == 0) {
                int L = 80 + below(600);
                push(i, p, 0, 0x18, cs, ss, L);
                cs += L;
                STEP(rtt);
                L = 100 + below(1300);
                push(i, p, 1, 0x18, ss, cs, L);
                ss += L;
                STEP(rtt);
            }
            if (below(10) < 8) {
                push(i, p, 0, 0x11, cs, ss, 0);
                cs++;
                STEP(rtt);
                push(i, p, 1, 0x11, ss, cs, 0);
                ss++;
                STEP(30);
                push(i, p, 0, 0x10, cs, ss, 0);
            } else if (below(2))
                push(i, p, 0, 0x14, cs, ss, 0);
        }
    }
    qsort(ev, nev, sizeof *ev, cmp);
    FILE *o = strcmp(out, "-") ? fopen(out, "wb") : stdout;
    if (!o) {
        perror(out);
        return 1;
    }
    setvbuf(o, NULL, _IOFBF, 1 << 20);
    uint32_t gh[6] = {0xa1b2c3d4, 4 | (2 << 16), 0, 0, snap ? snap : 65535, 1};
    gh[1] = 2 | (4 << 16);
    fwrite(gh, 4, 6, o);
    uint64_t bytes = 0, wire = 0, nt = 0, nu = 0, n6 = 0;
    uint32_t *cnt = calloc(F, 4);
    uint64_t base = 1700000000ull * 1000000ull;
    for (uint64_t k = 0; k < nev; k++) {
        Ev *e = &ev[k];
        Flow *f = &fl[e->flow];
        cnt[e->flow]++;
        uint8_t *p = buf;
        int d = e->dir;
        memset(p, 2, 12);
        p[0] = p[6] = 2;
        p[5] = d ? 0x11 : 0x22;
        p[11] = d ? 0x22 : 0x11;
        p16(p + 12, f->v6 ? 0x86dd : 0x0800);
        p += 14;
        int fl_ = e->flags & 0x3f;
        int opt = f->proto == 6 ? ((fl_ & 2) ? 20 : 12) : 0;
        int l4 = f->proto == 6 ? 20 + opt : 8;
        int tot = l4 + e->plen;
        uint8_t *ip = p;
        uint16_t sp = d ? f->sport : f->cport, dp = d ? f->cport : f->sport;
        uint32_t acc = 0;
        if (!f->v6) {
            p[0] = 0x45;
            p[1] = 0;
            p16(p + 2, 20 + tot);
            p16(p + 4, d ? (f->ipid_s ? f->ipid_s++ : 0) : f->ipid_c++);
            p16(p + 6, 0x4000);
            p[8] = d ? f->sttl : f->cttl;
            p[9] = f->proto;
            p16(p + 10, 0);
            p32(p + 12, d ? f->sip : f->cip);
            p32(p + 16, d ? f->cip : f->sip);
            p16(p + 10, fold(sum(p, 20, 0)));
            acc = sum(p + 12, 8, 0);
            p += 20;
        } else {
            p32(p, 0x60000000u | (mix32(e->flow) & 0xfffff));
            p16(p + 4, tot);
            p[6] = f->proto;
            p[7] = d ? f->sttl : f->cttl;
            addr6(p + 8, d ? f->sip : f->cip, d);
            addr6(p + 24, d ? f->cip : f->sip, !d);
            acc = sum(p + 8, 32, 0);
            p += 40;
            n6++;
        }
        uint8_t *h = p;
        p16(h, sp);
        p16(h + 2, dp);
        int w;
        if (f->proto == 6) {
            nt++;
            p32(h + 4, e->seq);
            p32(h + 8, (fl_ & 0x10) ? e->ack : 0);
            h[12] = (l4 / 4) << 4;
            h[13] = fl_;
            p16(h + 14, d ? f->swin : f->cwin);
            p16(h + 16, 0);
            p16(h + 18, 0);
            uint8_t *q = h + 20;
            uint32_t tv = f->tsv + (uint32_t)(e->ts / 1000);
            if (opt == 20) {
                q[0] = 2;
                q[1] = 4;
                p16(q + 2, 1460);
                q[4] = 4;
                q[5] = 2;
                q[6] = 8;
                q[7] = 10;
                p32(q + 8, tv);
                p32(q + 12, d ? tv - 5 : 0);
                q[16] = 1;
                q[17] = 3;
                q[18] = 3;
                q[19] = 7;
            } else {
                q[0] = 1;
                q[1] = 1;
                q[2] = 8;
                q[3] = 10;
                p32(q + 4, tv);
                p32(q + 8, tv - 5);
            }
        } else {
            nu++;
            p16(h + 4, tot);
            p16(h + 6, 0);
        }
        memset(h + l4, 0, e->plen);
        w = l7(h + l4, f, e, e->plen);
        uint16_t ck = fold(sum(h, l4 + w, acc + f->proto + tot));
        if (f->proto == 6)
            p16(h + 16, ck);
        else
            p16(h + 6, ck ? ck : 0xffff);
        uint32_t len = (uint32_t)(h - buf) + tot;
        (void)ip;
        uint32_t cl = snap && len > (uint32_t)snap ? (uint32_t)snap : len;
        uint64_t ts = base + e->ts;
        uint32_t rh[4] = {(uint32_t)(ts / 1000000), (uint32_t)(ts % 1000000), cl, len};
        fwrite(rh, 4, 4, o);
        fwrite(buf, 1, cl, o);
        bytes += 16 + cl;
        wire += len;
    }
    fclose(o);
    if (lab) {
        FILE *l = fopen(lab, "w");
        fprintf(l, "flow,ipver,proto,cip,cport,sip,sport,app\n");
        for (uint32_t i = 0; i < F; i++) {
            Flow *f = &fl[i];
            fprintf(l, "%u,%d,%d,%u,%u,%u,%u,%s\n", i, f->v6 ? 6 : 4, f->proto, f->cip, f->cport,
                    f->sip, f->sport, A[f->app].n);
        }
        fclose(l);
    }
    uint32_t hist[4096] = {0};
    for (uint32_t i = 0; i < F; i++)
        hist[cnt[i] < 4095 ? cnt[i] : 4095]++;
    uint64_t a = 0;
    uint32_t med = 0, p90 = 0, p99 = 0;
    for (uint32_t i = 0; i < 4096; i++) {
        a += hist[i];
        if (!med && a >= F / 2)
            med = i;
        if (!p90 && a >= F * 0.9)
            p90 = i;
        if (!p99 && a >= F * 0.99)
            p99 = i;
    }
    fprintf(
        stderr,
        "flows %u packets %lu mean %.2f median %u p90 %u p99 %u tcp_pkts %lu udp_pkts %lu v6_pkts "
        "%lu file_bytes %lu wire_bytes %lu (mean frame %.0f) span %.1f s ports_dropped %lu\n",
        F, nev, (double)nev / F, med, p90, p99, nt, nu, n6, bytes + 24, wire, (double)wire / nev,
        ev[nev - 1].ts / 1e6, dropped_ports);
    return 0;
}
