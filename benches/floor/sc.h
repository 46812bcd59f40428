/* What the floor servers know of the SocketCluster protocol: byte offsets.
 * No JSON parsing, no checks, no middleware: the messages of the load generator only. */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#define MAX_CHANNELS 1048576
static const char UPGRADE[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct buf { char *p; uint32_t n, cap; };

static inline void put(struct buf *b, const void *p, uint32_t n) {
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

/* Header of an unmasked text frame; answers its size. */
static inline int head(char h[10], uint32_t n) {
    h[0] = (char)0x81;
    if (n < 126) { h[1] = (char)n; return 2; }
    if (n < 65536) { h[1] = 126; h[2] = (char)(n >> 8); h[3] = (char)n; return 4; }
    h[1] = 127;
    for (int i = 0; i < 8; i++) h[2 + i] = (char)((uint64_t)n >> (8 * (7 - i)));
    return 10;
}

/* The server behind: a transport defines these. */
struct conn;
static void reply(struct conn *c, const char *p, uint32_t n);
static void subscribe(struct conn *c, uint32_t channel);
static void publish(uint32_t channel, const char *p, uint32_t n);

static inline uint32_t number(const char *p) {
    uint32_t n = 0;
    while (*p >= '0' && *p <= '9') n = n * 10 + (uint32_t)(*p++ - '0');
    return n;
}

static void on_text(struct conn *c, char *p, uint32_t n) {
    static const char SUB[] = "{\"event\":\"#subscribe\",\"data\":{\"channel\":\"c";
    static const char PUB[] = "{\"event\":\"#publish\",\"data\":{\"channel\":\"c";
    if (n < 20) return; /* an answered heartbeat */
    uint32_t tail = n; /* where ,"cid":N} begins */
    while (p[--tail] != ',') {}
    char out[65600];
    int h = 0, m;
    if (p[10] == 'e') { /* {"event":"echo","data":"...","cid":N} */
        uint32_t body = tail - 23;
        char tmp[24];
        m = snprintf(tmp, sizeof tmp, "{\"rid\":%u,\"data\":", number(p + tail + 7));
        h = head(out, (uint32_t)m + body + 1);
        memcpy(out + h, tmp, (size_t)m);
        memcpy(out + h + m, p + 23, body);
        out[h + m + (int)body] = '}';
        reply(c, out, (uint32_t)(h + m) + body + 1);
        return;
    }
    if (p[11] == 's' && p[sizeof SUB - 2] == 'c') subscribe(c, number(p + sizeof SUB - 1));
    m = snprintf(out + 2, 64, "{\"rid\":%u}", number(p + tail + 7));
    head(out, (uint32_t)m);
    reply(c, out, (uint32_t)m + 2);
    if (p[11] == 'p') {
        p[tail] = '}';
        publish(number(p + sizeof PUB - 1), p, tail + 1);
    }
}

/* Eats whole client frames; answers the bytes taken. */
static uint32_t eat(struct conn *c, char *p, uint32_t n) {
    uint32_t at = 0;
    while (n - at >= 6) {
        unsigned char *f = (unsigned char *)p + at;
        uint32_t len = f[1] & 127, h = 2;
        if (len == 126) { len = (uint32_t)f[2] << 8 | f[3]; h = 4; }
        if (n - at < h + 4 + len) break;
        uint32_t mask;
        memcpy(&mask, f + h, 4);
        uint64_t wide = (uint64_t)mask << 32 | mask, w;
        char *d = (char *)f + h + 4;
        uint32_t i = 0;
        for (; i + 8 <= len; i += 8) { memcpy(&w, d + i, 8); w ^= wide; memcpy(d + i, &w, 8); }
        for (; i < len; i++) d[i] ^= (char)(mask >> (8 * (i & 3)));
        if ((f[0] & 15) == 1) on_text(c, d, len);
        at += h + 4 + len;
    }
    return at;
}
