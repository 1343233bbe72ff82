/* What lies between the products of a language model, each one pass over memory, in training and in decoding.

   compiling.py compiles this for the processor it runs on, once with BFLOAT16 and once for float32. Sums and
   exponentials are float32; what is stored is rounded to the nearest even. Pointers are contiguous arrays, sizes are in
   elements. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && !defined(__FMA__)
#error "this processor multiplies and adds in two steps: PyTorch's operations are faster"
#endif

#ifdef BFLOAT16
typedef uint16_t T;
static inline float wide(T x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline T narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (T)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
#else
typedef float T;
static inline float wide(T x) { return x; }
static inline T narrow(float value) { return value; }
#endif

#define INLINE static inline __attribute__((always_inline))
#define ALONE 16384 /* elements: less work than this is done before other threads have woken up */

/* e^x for |x| <= 87 (beyond, e^87 or e^-87) to 2 units in the last place; a loop of it becomes vector instructions. */
INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, x));
    float p = 1.9875691e-4f;
    p = fmaf(p, r, 1.3981999e-3f);
    p = fmaf(p, r, 8.3334519e-3f);
    p = fmaf(p, r, 4.1665796e-2f);
    p = fmaf(p, r, 1.6666665e-1f);
    p = fmaf(p, r, 5.0000001e-1f);
    p = fmaf(p * r, r, r) + 1.0f;
    uint32_t bits = ((uint32_t)(int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* e^x for x <= 0, and 0 where nothing is left of it: what a mask rules out has no share. */
INLINE float share_of(float x) { return x <= -87.0f ? 0.0f : exponential(x); }

/* The largest of some numbers: lanes by hand, because a maximum of what may be no number is no vector reduction. */
#define LANES 16
#define LARGEST(name, type, value)                                                                                    \
    INLINE float name(const type *x, int64_t count) {                                                                 \
        float most = -INFINITY, lanes[LANES];                                                                         \
        int64_t i = 0;                                                                                                \
        for (int j = 0; j < LANES; j++) lanes[j] = most;                                                              \
        for (; i + LANES <= count; i += LANES)                                                                        \
            for (int j = 0; j < LANES; j++) lanes[j] = value(x[i + j]) > lanes[j] ? value(x[i + j]) : lanes[j];       \
        for (; i < count; i++) most = value(x[i]) > most ? value(x[i]) : most;                                        \
        for (int j = 0; j < LANES; j++) most = lanes[j] > most ? lanes[j] : most;                                     \
        return most;                                                                                                  \
    }
LARGEST(largest, T, wide)
LARGEST(largest_float, float, )

INLINE float inverse_rms(const T *x, int64_t width, float epsilon) {
    float sum = 0.0f;
    for (int64_t i = 0; i < width; i++) sum += wide(x[i]) * wide(x[i]);
    return 1.0f / sqrtf(sum / width + epsilon);
}

/* x += delta (unless that is null), then out = gain * x / rms(x), and 1 / rms(x) into inverses (unless that is null):
   x, delta, out (rows, width), gain (width,), inverses (rows,). */
void add_norm(T *x, const T *delta, const T *gain, T *out, float *inverses, int64_t rows, int64_t width, float epsilon,
              int threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        T *here = x + row * width, *to = out + row * width;
        if (delta)
            for (int64_t i = 0; i < width; i++) here[i] = narrow(wide(here[i]) + wide(delta[row * width + i]));
        float inverse = inverse_rms(here, width, epsilon);
        if (inverses) inverses[row] = inverse;
        for (int64_t i = 0; i < width; i++) to[i] = narrow(wide(narrow(wide(here[i]) * inverse)) * wide(gain[i]));
    }
}

/* The gradient of x from that of gain * x / rms(x): d normed_j / d x_i = (delta_ij - normed_i normed_j / D) / rms. */
void norm_backward(const T *x, const T *gain, const float *inverses, const T *gradient, T *out, int64_t rows,
                   int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        const T *here = x + row * width, *from = gradient + row * width;
        float inverse = inverses[row], sum = 0.0f;
        for (int64_t i = 0; i < width; i++) sum += wide(from[i]) * wide(gain[i]) * wide(here[i]);
        float mean = sum * inverse * inverse / width;
        for (int64_t i = 0; i < width; i++)
            out[row * width + i] = narrow((wide(from[i]) * wide(gain[i]) - wide(here[i]) * mean) * inverse);
    }
}

/* out = silu(gate) * up: gate_up (rows, 2 * width), the gate first, out (rows, width). */
void gated(const T *gate_up, T *out, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        const T *gate = gate_up + row * 2 * width, *up = gate + width;
        for (int64_t i = 0; i < width; i++) {
            float value = wide(gate[i]);
            out[row * width + i] = narrow(value / (1.0f + exponential(-value)) * wide(up[i]));
        }
    }
}

/* The gradients of gate and up from that of silu(gate) * up: gate_up, out (rows, 2 * width), gradient (rows, width). */
void gated_backward(const T *gate_up, const T *gradient, T *out, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        const T *gate = gate_up + row * 2 * width, *up = gate + width, *from = gradient + row * width;
        T *to = out + row * 2 * width;
        for (int64_t i = 0; i < width; i++) {
            float value = wide(gate[i]), share = 1.0f / (1.0f + exponential(-value)), given = wide(from[i]);
            to[i] = narrow(given * wide(up[i]) * share * (1.0f + value * (1.0f - share)));
            to[i + width] = narrow(given * value * share);
        }
    }
}

/* The second half of a head turns with the first: the sine has the sign that its half takes, `way` is -1 to turn
   back. */
INLINE void turn(const float *head, const T *cos, const T *sin, float way, int64_t dim, float *out) {
    int64_t half = dim / 2;
    for (int64_t i = 0; i < half; i++) out[i] = head[i] * wide(cos[i]) + way * head[i + half] * wide(sin[i]);
    for (int64_t i = half; i < dim; i++) out[i] = head[i] * wide(cos[i]) + way * head[i - half] * wide(sin[i]);
}

/* Rotary embedding of every head: x (rows, heads, dim), whose rows are `stride` apart, cos, sin (rows, dim). */
void rotate(const T *x, const T *cos, const T *sin, T *out, int64_t rows, int64_t heads, int64_t dim, int64_t stride,
            float way, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * heads * dim > ALONE)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < heads; head++) {
            float plain[dim], turned[dim];
            for (int64_t i = 0; i < dim; i++) plain[i] = wide(x[row * stride + head * dim + i]);
            turn(plain, cos + row * dim, sin + row * dim, way, dim, turned);
            for (int64_t i = 0; i < dim; i++) out[(row * heads + head) * dim + i] = narrow(turned[i]);
        }
}

/* Scores become shares, in place, of the first so many keys that a query sees; the others get none: scores
   (batch, heads, queries, keys), seen (batch, queries), from 1 to keys. */
void soften(T *scores, const int64_t *seen, int64_t batch, int64_t heads, int64_t queries, int64_t keys, int threads) {
#pragma omp parallel for num_threads(threads) if (batch * heads * queries * keys > ALONE)
    for (int64_t row = 0; row < batch * heads * queries; row++) {
        T *here = scores + row * keys;
        int64_t count = seen[row / (heads * queries) * queries + row % queries];
        float most = largest(here, count), sum = 0.0f, shares[keys];
        for (int64_t i = 0; i < count; i++) sum += shares[i] = exponential(wide(here[i]) - most);
        for (int64_t i = 0; i < count; i++) here[i] = narrow(shares[i] / sum);
        for (int64_t i = count; i < keys; i++) here[i] = narrow(0.0f);
    }
}

/* The gradient of scores from that of their shares, in place of it: both (rows, keys). */
void soften_backward(const T *shares, T *gradient, int64_t rows, int64_t keys, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * keys > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        const T *share = shares + row * keys;
        T *here = gradient + row * keys;
        float sum = 0.0f;
        for (int64_t i = 0; i < keys; i++) sum += wide(share[i]) * wide(here[i]);
        for (int64_t i = 0; i < keys; i++) here[i] = narrow(wide(share[i]) * (wide(here[i]) - sum));
    }
}

/* What a row of logits says of its target: logits (rows, width), scaled by `scale`, targets (rows,) -> log-probability,
   log normaliser and entropy (rows,) each. Where `slope` is set the logits become the gradient of the log-probability
   with respect to the scaled logits, onehot - p, subtracted before anything is rounded. */
void log_probability(T *logits, const int64_t *targets, float *logprobs, float *normalisers, float *entropies,
                     int64_t rows, int64_t width, float scale, int slope, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        T *here = logits + row * width;
        float most = largest(here, width), sum = 0.0f, moment = 0.0f;
        for (int64_t i = 0; i < width; i++) {
            float above = (wide(here[i]) - most) * scale, weight = exponential(above);
            sum += weight;
            moment += weight * above;
        }
        float above = (wide(here[targets[row]]) - most) * scale, log_sum = logf(sum);
        logprobs[row] = above - log_sum;
        normalisers[row] = most * scale + log_sum;
        entropies[row] = log_sum - moment / sum;
        if (!slope) continue;
        for (int64_t i = 0; i < width; i++)
            here[i] = narrow(-exponential((wide(here[i]) - most) * scale) / sum);
        here[targets[row]] = narrow(1.0f - exponential(above) / sum);
    }
}

/* Hinton's loss of a student (rows, width) beside its teacher (rows, width), with d loss / d student, which is
   weight * (alpha * T * (q - p) + (1 - alpha) * (q at temperature 1 - onehot)): targets, weights, and KL(p, q) at the
   temperature and cross-entropy at 1 of each row, (rows,); room (threads, 3 * width) is scratch. What a teacher rules
   out weighs nothing, whatever is said. */
void distillation(const float *student, const T *teacher, const int64_t *targets, const float *weights, float *kls,
                  float *ces, float *room, float *gradient, int64_t rows, int64_t width, float temperature, float alpha,
                  int threads) {
    float scale = 1.0f / temperature;
#pragma omp parallel num_threads(threads) if (rows * width > ALONE)
    {
        float *ps = room + omp_get_thread_num() * 3 * width, *qs = ps + width, *qs_1 = qs + width;
#pragma omp for
        for (int64_t row = 0; row < rows; row++) {
            const float *s = student + row * width;
            const T *t = teacher + row * width;
            float most_s = largest_float(s, width), most_t = largest(t, width);
            float sum_p = 0.0f, sum_q = 0.0f, sum_1 = 0.0f, moment = 0.0f;
            for (int64_t i = 0; i < width; i++) {
                sum_p += ps[i] = share_of((wide(t[i]) - most_t) * scale);
                sum_q += qs[i] = exponential((s[i] - most_s) * scale);
                sum_1 += qs_1[i] = exponential(s[i] - most_s);
            }
            for (int64_t i = 0; i < width; i++)
                moment += ps[i] > 0.0f ? ps[i] * (wide(t[i]) - most_t - s[i] + most_s) : ps[i];
            kls[row] = moment * scale / sum_p - logf(sum_p) + logf(sum_q);
            ces[row] = logf(sum_1) + most_s - s[targets[row]];
            if (!gradient) continue;
            float *to = gradient + row * width, counts = weights[row] > 0.0f ? weights[row] : 0.0f;
            float of_ce = counts * (1.0f - alpha), of_1 = of_ce / sum_1;
            float of_p = counts * alpha * temperature / sum_p, of_q = counts * alpha * temperature / sum_q;
            for (int64_t i = 0; i < width; i++) to[i] = of_q * qs[i] - of_p * ps[i] + of_1 * qs_1[i];
            if (counts > 0.0f)
                to[targets[row]] -= of_ce;
            else
                memset(to, 0, width * sizeof(float));
        }
    }
}

/* One token a row from softmax(scale * logits): logits (rows, width), uniforms (rows,) in [0, 1), tokens (rows,). The
   running sum is over blocks of tokens first, then within one; what has no share is never drawn. */
#define BLOCK 256
void draw(const T *logits, const float *uniforms, int64_t *tokens, int64_t rows, int64_t width, float scale,
          int threads) {
#pragma omp parallel for num_threads(threads) if (rows * width > ALONE)
    for (int64_t row = 0; row < rows; row++) {
        const T *here = logits + row * width;
        int64_t blocks = (width + BLOCK - 1) / BLOCK, block = 0, token = 0;
        float most = largest(here, width), total = 0.0f, sums[blocks];
        for (int64_t b = 0; b < blocks; b++) {
            int64_t end = (b + 1) * BLOCK < width ? (b + 1) * BLOCK : width;
            float sum = 0.0f;
            for (int64_t i = b * BLOCK; i < end; i++) sum += share_of((wide(here[i]) - most) * scale);
            total += sums[b] = sum;
        }
        float rest = uniforms[row] * total;
        for (int64_t b = 0; b < blocks; b++) {
            if (sums[b] == 0.0f) continue;
            block = b;
            if (rest < sums[b]) break;
            rest -= sums[b];
        }
        int64_t end = (block + 1) * BLOCK < width ? (block + 1) * BLOCK : width;
        for (int64_t i = block * BLOCK; i < end; i++) {
            float share = share_of((wide(here[i]) - most) * scale);
            if (share == 0.0f) continue;
            token = i;
            if (rest < share) break;
            rest -= share;
        }
        tokens[row] = token;
    }
}

/* A head of a new token, normalised (unless gain is null) and rotated. */
INLINE void placed(const T *head, const T *gain, const T *cos, const T *sin, int64_t dim, float epsilon, float *out) {
    float inverse = gain ? inverse_rms(head, dim, epsilon) : 1.0f, plain[dim];
    for (int64_t i = 0; i < dim; i++) plain[i] = wide(head[i]) * (gain ? inverse * wide(gain[i]) : 1.0f);
    turn(plain, cos, sin, 1.0f, dim, out);
}

/* What one query (dim,) sees of `seen` keys and values (seen, dim); shares (seen,) is scratch. */
INLINE void look(const float *query, const T *keys, const T *values, int64_t seen, int64_t dim, float *shares, T *out) {
    float most, sum = 0.0f, mixed[dim];
    for (int64_t t = 0; t < seen; t++) {
        float score = 0.0f;
        for (int64_t i = 0; i < dim; i++) score += query[i] * wide(keys[t * dim + i]);
        shares[t] = score;
    }
    most = largest_float(shares, seen);
    for (int64_t t = 0; t < seen; t++) sum += shares[t] = exponential(shares[t] - most);
    for (int64_t i = 0; i < dim; i++) mixed[i] = 0.0f;
    for (int64_t t = 0; t < seen; t++)
        for (int64_t i = 0; i < dim; i++) mixed[i] += shares[t] * wide(values[t * dim + i]);
    for (int64_t i = 0; i < dim; i++) out[i] = narrow(mixed[i] / sum);
}

struct sizes {
    int64_t rows, heads, kv_heads, dim, room, threads;
};

INLINE void attend_one(const T *qkv, T *keys, T *values, const T *cos, const T *sin, const T *query_gain,
                       const T *key_gain, int64_t place, int64_t dim, int64_t head, const struct sizes *s,
                       float scaling, float epsilon, float *shares, T *out) {
    int64_t group = s->heads / s->kv_heads;
    float turned[dim];
    cos += place * dim, sin += place * dim;
    placed(qkv + (s->heads + head) * dim, key_gain, cos, sin, dim, epsilon, turned);
    for (int64_t i = 0; i < dim; i++) keys[place * dim + i] = narrow(turned[i]);
    memcpy(values + place * dim, qkv + (s->heads + s->kv_heads + head) * dim, dim * sizeof(T));
    for (int64_t query = head * group; query < (head + 1) * group; query++) {
        placed(qkv + query * dim, query_gain, cos, sin, dim, epsilon, turned);
        for (int64_t i = 0; i < dim; i++) turned[i] *= scaling;
        look(turned, keys, values, place + 1, dim, shares, out + query * dim);
    }
}

/* Every row's new token takes its place and looks back: qkv (rows, (heads + 2 * kv_heads) * dim) as the projection left
   it; keys, values (rows, kv_heads, room, dim); cos, sin (>= room, dim); lengths (rows,) tokens that each row holds;
   shares (rows * kv_heads, room) is scratch; out (rows, heads * dim). */
void attend(const T *qkv, T *keys, T *values, const T *cos, const T *sin, const T *query_gain, const T *key_gain,
            const int64_t *lengths, float *shares, T *out, const struct sizes *s, float scaling, float epsilon) {
    int64_t pairs = s->rows * s->kv_heads, width = (s->heads + 2 * s->kv_heads) * s->dim, dim = s->dim;
#pragma omp parallel for num_threads((int)s->threads) schedule(dynamic) if (pairs > 1)
    for (int64_t pair = 0; pair < pairs; pair++) {
        int64_t row = pair / s->kv_heads, head = pair % s->kv_heads, start = pair * s->room * dim;
        const T *from = qkv + row * width;
        T *to = out + row * s->heads * dim;
        /* a size that the compiler knows makes the loops over it straight lines of vector instructions */
#define ONE(size)                                                                                                     \
    attend_one(from, keys + start, values + start, cos, sin, query_gain, key_gain, lengths[row], size, head, s,       \
               scaling, epsilon, shares + pair * s->room, to)
        if (dim == 64)
            ONE(64);
        else if (dim == 128)
            ONE(128);
        else
            ONE(dim);
    }
}
