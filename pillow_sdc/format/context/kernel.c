/* The inner loop of the codec "context": windows, network, mixtures, range coder, trellis.
 *
 * It computes the same integers as stream.py, network.py, mixtures.py, range_coder.py and trellis.py, which are the
 * reference and explain the format. Nothing is allocated here: the caller provides all memory. Every read of a stream
 * is bounded by its length. Symbols are bounded by MAX_ESCAPE_BITS and by the network's sums, which stay below 2^24:
 * so positions stay below 2^37, and their products with inverse scales below 2^60.
 *
 * Compiled without contraction of floating-point operations (-ffp-contract=off), so that each is rounded by itself.
 * Right shifts of negative numbers must round down: C leaves that to the compiler; GCC and Clang guarantee it.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if FLT_EVAL_METHOD != 0
#error "this processor's floating-point unit rounds to more than 64 bits"
#endif

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

enum {
    VERSION = 2,
    CHANNELS = 4,
    PLACE = CHANNELS + 1, /* inputs from a place: its latents, and whether it is inside the picture */
    OUTPUTS = 5,
    UNITS = 96,
    ROWS_ABOVE = 4,
    COLUMNS_BESIDE = 4,
    RIGHT_ABOVE = 2,
    SLOPE = RIGHT_ABOVE + 1,
    WHOLE_ROW = (2 * COLUMNS_BESIDE + 1) * PLACE,
    WINDOW = (ROWS_ABOVE - 1) * WHOLE_ROW + (COLUMNS_BESIDE + 1 + RIGHT_ABOVE) * PLACE + COLUMNS_BESIDE * PLACE,
    INSIDE = 32,
    MAX_INT8 = 127,
    BAND = 128, /* also the largest number of places on a wavefront */

    GROUP = 4,                                         /* inputs that one instruction multiplies and adds */
    WINDOW_GROUPS = (WINDOW + GROUP - 1) / GROUP,
    UNIT_GROUPS = UNITS / GROUP,
    WIDTH = 16,                                        /* units of a vector; the last layer is padded to it */

    LOGIT_MIDDLE = 128,
    LOG_SCALE_MIDDLE = 80,
    MAX_LOG_SCALE = 112,
    DEVIATE_MIDDLE = 3072,
    PRECISION = 16,
    PROBABILITY_BITS = 24,
    INVERSE_BITS = 20,
    OUTPUT_RATIO = 8, /* unit of the network's outputs over the unit of positions */
    SUBDIVISIONS = 8,
    MAX_ESCAPE_BITS = 20,

    STATES = 64,
    ODD_CHECK = 0x0A,
    FLIP_CHECK = 0x21
};

#define TOP ((uint64_t)1 << 56)
#define BOTTOM (TOP >> 8)
#define POSITION_UNIT (1.0 / 8192)

enum operation { READ, READ_TRUNCATED, WRITE, PREDICT };
enum status { DONE, DAMAGED, TOO_FAR, TRUNCATED, FULL };

typedef struct {
    /* Packed by sdc_pack. */
    const int8_t *window; /* 190 inputs, 4 * 96 units */
    const int8_t *here;   /* by channel: 4 inputs, 96 units */
    const int8_t *inner0, *inner1; /* by channel: 96 inputs, 96 units */
    const int8_t *last;   /* by channel: 96 inputs, 16 units, of which 5 are used */
    /* Biases under the picture's conditions, by channel and unit. */
    const int32_t *window_bias, *inner0_bias, *inner1_bias, *last_bias;
    /* Tables of mixtures.py. */
    const int32_t *weights, *inverse_scales, *logistic_cdf;
    int32_t step, bin_width, radius, is_trellis;
    int32_t path;
} Model;

typedef struct {
    uint8_t *stream;
    int64_t length; /* of the stream when reading, of the buffer when writing */
    int64_t next;
    uint64_t width, offset; /* of the interval; when writing, offset is the interval's low end */
} Coder;

typedef struct {
    uint8_t windows[BAND][WINDOW_GROUPS * GROUP];
    int32_t window_sums[BAND][CHANNELS * UNITS];
    uint8_t here[BAND][GROUP];
    int32_t sums[BAND][UNITS];
    uint8_t hidden[BAND][UNITS];
    int32_t outputs[BAND][WIDTH];
    uint8_t states[CHANNELS][BAND];
    uint8_t *latents; /* (BAND + 4, columns + 8, 5), as in the class CodedLatents */
    int64_t row_stride;
} Work;

/* ---- products of matrices ------------------------------------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline))
#define TARGET(features) __attribute__((target(features)))

/* Adds to out (n, units) the products of x (n, 4 * groups) with packed weights (groups, units, 4). */
typedef void Multiply(const uint8_t *x, int64_t x_stride, int n, int groups, const int8_t *weights, int units,
                      int32_t *out, int64_t out_stride);

/* Defines a function that goes through the matrix in tiles of four places by some vectors of units, whose sums stay in
 * registers. The tile function is inlined with constants, so that its loops unroll. */
#define IN_TILES(name, tile, features, in_vector, most)                                                               \
    features static void name(const uint8_t *x, int64_t x_stride, int n, int groups, const int8_t *weights,           \
                              int units, int32_t *out, int64_t out_stride)                                            \
    {                                                                                                                 \
        for (int i = 0, places; i < n; i += places) {                                                                 \
            places = n - i >= 4 ? 4 : 1;                                                                              \
            for (int unit = 0, vectors; unit < units; unit += vectors * (in_vector)) {                                \
                vectors = units - unit >= (most) * (in_vector) ? (most) : 1;                                          \
                const uint8_t *from = x + i * x_stride;                                                               \
                const int8_t *w = weights + GROUP * unit;                                                            \
                int32_t *to = out + i * out_stride + unit;                                                            \
                if (places == 4 && vectors == (most))                                                                 \
                    tile(from, x_stride, 4, groups, w, units, to, out_stride, most);                                  \
                else if (places == 4)                                                                                 \
                    tile(from, x_stride, 4, groups, w, units, to, out_stride, 1);                                     \
                else if (vectors == (most))                                                                           \
                    tile(from, x_stride, 1, groups, w, units, to, out_stride, most);                                  \
                else                                                                                                  \
                    tile(from, x_stride, 1, groups, w, units, to, out_stride, 1);                                     \
            }                                                                                                         \
        }                                                                                                             \
    }

/* Activations from sums of products: scaled by 2^-bits, rounded, and clamped to 0 to 127. */
typedef void Activate(const int32_t *sums, int count, int bits, uint8_t *hidden);

INLINE void activate(const int32_t *sums, int count, int bits, uint8_t *hidden)
{
    for (int i = 0; i < count; i++) {
        const int32_t value = (sums[i] + (1 << (bits - 1))) >> bits;
        hidden[i] = (uint8_t)(value < 0 ? 0 : value > MAX_INT8 ? MAX_INT8 : value);
    }
}

__attribute__((unused)) static inline int32_t four_of(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return four;
}

static void multiply_portably(const uint8_t *x, int64_t x_stride, int n, int groups, const int8_t *weights, int units,
                              int32_t *out, int64_t out_stride)
{
    for (int i = 0; i < n; i++, x += x_stride, out += out_stride) {
        const int8_t *w = weights;
        for (int group = 0; group < groups; group++) {
            const int8_t *four = (const int8_t *)x + GROUP * group;
            const int a = four[0], b = four[1], c = four[2], d = four[3];
            for (int unit = 0; unit < units; unit++, w += GROUP)
                out[unit] += a * w[0] + b * w[1] + c * w[2] + d * w[3];
        }
    }
}

static void activate_portably(const int32_t *sums, int count, int bits, uint8_t *hidden)
{
    activate(sums, count, bits, hidden);
}

/* ---- trellis -------------------------------------------------------------------------------------------------- */

static int parity(int bits) { return __builtin_parity((unsigned)bits); }

enum {
    HALF = STATES / 2, /* the states from and from + HALF lead to 2 * from and 2 * from + 1, each with one parity */
    LANES = 4          /* neighbouring states; ODD_CHECK and FLIP_CHECK have one bit each among these */
};

typedef struct {
    double errors[2][2][LANES]; /* squared errors of the values on the branches; errors_of gives the layout */
    double costs[STATES];       /* least cost of the paths to each state, this place included */
} Step;

/* Sets the symbols of a chain; steps is memory for one Step for each place. */
typedef void Quantise(const double *targets, int64_t places, int64_t *symbols, Step *steps);

INLINE double nearest(double target, int residue) { return residue + 4 * rint((target - residue) / 4); }

INLINE const double *errors_of(const Step *step, int from, int bit)
{
    return step->errors[from >> 3 & 1][bit ^ (from >> 5 & 1)];
}

INLINE int residue_of(int from, int bit) { return parity(from & ODD_CHECK) + 2 * (bit ^ parity(from & FLIP_CHECK)); }

INLINE void quantise(const double *targets, int64_t places, int64_t *symbols, Step *steps)
{
    for (int64_t place = 0; place < places; place++) {
        double errors[4];
        for (int residue = 0; residue < 4; residue++) {
            const double error = nearest(targets[place], residue) - targets[place];
            errors[residue] = error * error;
        }
        for (int odd = 0; odd < 2; odd++)
            for (int flipped = 0; flipped < 2; flipped++)
                for (int lane = 0; lane < LANES; lane++)
                    steps[place].errors[odd][flipped][lane] =
                        errors[((lane >> 1) ^ odd) + 2 * ((lane & 1) ^ flipped)];
    }
    double starting[STATES], next[2][HALF];
    for (int state = 0; state < STATES; state++)
        starting[state] = state ? INFINITY : 0;
    const double *before = starting;
    for (int64_t place = 0; place < places; place++) {
        Step *step = steps + place;
        for (int bit = 0; bit < 2; bit++)
            for (int from = 0; from < HALF; from += LANES)
                for (int lane = 0; lane < LANES; lane++) {
                    const double first = before[from + lane] + errors_of(step, from, bit)[lane];
                    const double second = before[from + HALF + lane] + errors_of(step, from + HALF, bit)[lane];
                    next[bit][from + lane] = second < first ? second : first;
                }
        for (int from = 0; from < HALF; from++)
            for (int bit = 0; bit < 2; bit++)
                step->costs[2 * from + bit] = next[bit][from];
        before = step->costs;
    }
    int state = 0;
    for (int other = 1; other < STATES; other++)
        if (before[other] < before[state])
            state = other;
    for (int64_t place = places - 1; place >= 0; place--) {
        const int bit = state & 1, from = state >> 1, lane = from % LANES;
        before = place ? steps[place - 1].costs : starting;
        const double first = before[from] + errors_of(steps + place, from, bit)[lane];
        const double second = before[from + HALF] + errors_of(steps + place, from + HALF, bit)[lane];
        state = second < first ? from + HALF : from;
        symbols[place] = (int64_t)floor(nearest(targets[place], residue_of(state, bit)) / 2);
    }
}

static void quantise_portably(const double *targets, int64_t places, int64_t *symbols, Step *steps)
{
    quantise(targets, places, symbols, steps);
}

static int always(void) { return 1; }

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define WITH_AVX_VNNI
#endif

/* pmaddwd, which all x86-64 processors have: as below, in vectors of 128 bits. */
INLINE __m128i widened(__m128i eight_bits) { return _mm_srai_epi16(_mm_unpacklo_epi8(eight_bits, eight_bits), 8); }

INLINE void tile_sse2(const uint8_t *x, int64_t x_stride, const int places, int groups, const int8_t *weights,
                      int units, int32_t *out, int64_t out_stride, const int vectors)
{
    __m128i sums[4][2]; /* by place and half of a vector */
    (void)vectors;
    for (int i = 0; i < places; i++)
        sums[i][0] = sums[i][1] = _mm_setzero_si128();
    for (int group = 0; group < groups; group++, weights += GROUP * units) {
        const __m128i w = _mm_loadu_si128((const __m128i *)weights);
        const __m128i low = widened(w), high = widened(_mm_unpackhi_epi64(w, w));
        for (int i = 0; i < places; i++) {
            const __m128i four = widened(_mm_set1_epi32(four_of(x + i * x_stride + GROUP * group)));
            sums[i][0] = _mm_add_epi32(sums[i][0], _mm_madd_epi16(low, four));
            sums[i][1] = _mm_add_epi32(sums[i][1], _mm_madd_epi16(high, four));
        }
    }
    for (int i = 0; i < places; i++) {
        const __m128i even = _mm_unpacklo_epi64(_mm_shuffle_epi32(sums[i][0], 0x08), _mm_shuffle_epi32(sums[i][1], 0x08));
        const __m128i odd = _mm_unpacklo_epi64(_mm_shuffle_epi32(sums[i][0], 0x0D), _mm_shuffle_epi32(sums[i][1], 0x0D));
        __m128i *to = (__m128i *)(out + i * out_stride);
        _mm_storeu_si128(to, _mm_add_epi32(_mm_loadu_si128(to), _mm_add_epi32(even, odd)));
    }
}
IN_TILES(multiply_sse2, tile_sse2, , 4, 1)

/* vpmaddwd: eight bits are widened to sixteen, and each unit has two sums until the end. */
TARGET("avx2") INLINE void tile_avx2(const uint8_t *x, int64_t x_stride, const int places, int groups,
                                     const int8_t *weights, int units, int32_t *out, int64_t out_stride,
                                     const int vectors)
{
    __m256i sums[4][3];
    for (int i = 0; i < places; i++)
        for (int v = 0; v < vectors; v++)
            sums[i][v] = _mm256_setzero_si256();
    for (int group = 0; group < groups; group++, weights += GROUP * units) {
        __m256i w[3];
        for (int v = 0; v < vectors; v++)
            w[v] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(weights + 4 * GROUP * v)));
        for (int i = 0; i < places; i++) {
            const __m256i four = _mm256_cvtepi8_epi16(_mm_set1_epi32(four_of(x + i * x_stride + GROUP * group)));
            for (int v = 0; v < vectors; v++)
                sums[i][v] = _mm256_add_epi32(sums[i][v], _mm256_madd_epi16(w[v], four));
        }
    }
    for (int i = 0; i < places; i++)
        for (int v = 0; v < vectors; v++) {
            const __m128i low = _mm256_castsi256_si128(sums[i][v]), high = _mm256_extracti128_si256(sums[i][v], 1);
            __m128i *to = (__m128i *)(out + i * out_stride + 4 * v);
            _mm_storeu_si128(to, _mm_add_epi32(_mm_loadu_si128(to), _mm_hadd_epi32(low, high)));
        }
}
IN_TILES(multiply_avx2, tile_avx2, TARGET("avx2"), 4, 3)

/* vpdpbusd: unsigned inputs times signed weights, in vectors of 256 or 512 bits. */
#define VNNI_TILE(name, features, vector, bytes, most, load, store, broadcast, multiply_and_add)                      \
    features INLINE void name(const uint8_t *x, int64_t x_stride, const int places, int groups,                       \
                              const int8_t *weights, int units, int32_t *out, int64_t out_stride,                    \
                              const int vectors)                                                                      \
    {                                                                                                                 \
        vector sums[4][most];                                                                                         \
        for (int i = 0; i < places; i++)                                                                              \
            for (int v = 0; v < vectors; v++)                                                                         \
                sums[i][v] = load((const void *)(out + i * out_stride + (bytes) / 4 * v));                            \
        for (int group = 0; group < groups; group++, weights += GROUP * units)                                        \
            for (int v = 0; v < vectors; v++) {                                                                       \
                const vector w = load((const void *)(weights + (bytes)*v));                                           \
                for (int i = 0; i < places; i++)                                                                      \
                    sums[i][v] = multiply_and_add(sums[i][v], broadcast(four_of(x + i * x_stride + GROUP * group)),   \
                                                  w);                                                                 \
            }                                                                                                         \
        for (int i = 0; i < places; i++)                                                                              \
            for (int v = 0; v < vectors; v++)                                                                         \
                store((void *)(out + i * out_stride + (bytes) / 4 * v), sums[i][v]);                                  \
    }

#if defined(WITH_AVX_VNNI)
#define AVX_VNNI TARGET("avx2,avxvnni")
VNNI_TILE(tile_avx_vnni, AVX_VNNI, __m256i, 32, 3, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi32,
          _mm256_dpbusd_avx_epi32)
IN_TILES(multiply_avx_vnni, tile_avx_vnni, AVX_VNNI, 8, 3)
#endif

#define AVX512_VNNI TARGET("avx512f,avx512bw,avx512vnni")
VNNI_TILE(tile_avx512_vnni, AVX512_VNNI, __m512i, 64, 6, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_set1_epi32,
          _mm512_dpbusd_epi32)
IN_TILES(multiply_avx512_vnni, tile_avx512_vnni, AVX512_VNNI, 16, 6)

TARGET("avx2") static void activate_avx2(const int32_t *sums, int count, int bits, uint8_t *hidden)
{
    activate(sums, count, bits, hidden);
}

AVX512_VNNI static void activate_avx512(const int32_t *sums, int count, int bits, uint8_t *hidden)
{
    activate(sums, count, bits, hidden);
}

TARGET("avx2") static void quantise_avx2(const double *targets, int64_t places, int64_t *symbols, Step *steps)
{
    quantise(targets, places, symbols, steps);
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }

#if defined(WITH_AVX_VNNI)
static int has_avx_vnni(void) /* only recent compilers know its name in __builtin_cpu_supports */
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

static int has_avx512_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

/* smull and sadalp, which all AArch64 processors have: each unit has two sums until the end. */
INLINE void tile_neon(const uint8_t *x, int64_t x_stride, const int places, int groups, const int8_t *weights,
                      int units, int32_t *out, int64_t out_stride, const int vectors)
{
    int32x4_t sums[4][2][2]; /* by place, vector and its half */
    for (int i = 0; i < places; i++)
        for (int v = 0; v < vectors; v++)
            sums[i][v][0] = sums[i][v][1] = vdupq_n_s32(0);
    for (int group = 0; group < groups; group++, weights += GROUP * units)
        for (int v = 0; v < vectors; v++) {
            const int8x16_t w = vld1q_s8(weights + 4 * GROUP * v);
            for (int i = 0; i < places; i++) {
                const int8x8_t four = vreinterpret_s8_s32(vdup_n_s32(four_of(x + i * x_stride + GROUP * group)));
                sums[i][v][0] = vpadalq_s16(sums[i][v][0], vmull_s8(vget_low_s8(w), four));
                sums[i][v][1] = vpadalq_s16(sums[i][v][1], vmull_s8(vget_high_s8(w), four));
            }
        }
    for (int i = 0; i < places; i++)
        for (int v = 0; v < vectors; v++) {
            int32_t *to = out + i * out_stride + 4 * v;
            vst1q_s32(to, vaddq_s32(vld1q_s32(to), vpaddq_s32(sums[i][v][0], sums[i][v][1])));
        }
}
IN_TILES(multiply_neon, tile_neon, , 4, 2)
#endif

#if defined(__aarch64__) && (!defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_DOTPROD))
#define WITH_SDOT
#if defined(__clang__)
#define DOTPROD TARGET("dotprod")
#else
#define DOTPROD TARGET("arch=armv8.2-a+dotprod")
#endif

DOTPROD INLINE void tile_sdot(const uint8_t *x, int64_t x_stride, const int places, int groups, const int8_t *weights,
                              int units, int32_t *out, int64_t out_stride, const int vectors)
{
    int32x4_t sums[4][6];
    for (int i = 0; i < places; i++)
        for (int v = 0; v < vectors; v++)
            sums[i][v] = vld1q_s32(out + i * out_stride + 4 * v);
    for (int group = 0; group < groups; group++, weights += GROUP * units) {
        int8x16_t w[6];
        for (int v = 0; v < vectors; v++)
            w[v] = vld1q_s8(weights + 4 * GROUP * v);
        for (int i = 0; i < places; i++) {
            const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(four_of(x + i * x_stride + GROUP * group)));
            for (int v = 0; v < vectors; v++)
                sums[i][v] = vdotq_s32(sums[i][v], w[v], four);
        }
    }
    for (int i = 0; i < places; i++)
        for (int v = 0; v < vectors; v++)
            vst1q_s32(out + i * out_stride + 4 * v, sums[i][v]);
}
IN_TILES(multiply_sdot, tile_sdot, DOTPROD, 4, 6)

static int has_sdot(void)
{
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#else
    return 1; /* all of Apple's processors that run macOS have it */
#endif
}
#endif

static const struct {
    const char *name;
    int (*runs)(void); /* whether this processor supports the path */
    Multiply *multiply;
    Activate *activate;
    Quantise *quantise;
    uint8_t offset; /* added to inputs that can be negative, to make them unsigned */
} PATHS[] = {
    {"portable", always, multiply_portably, activate_portably, quantise_portably, 0},
#if defined(__x86_64__)
    {"SSE2", always, multiply_sse2, activate_portably, quantise_portably, 0},
    {"AVX2", has_avx2, multiply_avx2, activate_avx2, quantise_avx2, 0},
#if defined(WITH_AVX_VNNI)
    {"AVX-VNNI", has_avx_vnni, multiply_avx_vnni, activate_avx2, quantise_avx2, 128},
#endif
    {"AVX-512 VNNI", has_avx512_vnni, multiply_avx512_vnni, activate_avx512, quantise_avx2, 128},
#endif
#if defined(__aarch64__)
    {"NEON", always, multiply_neon, activate_portably, quantise_portably, 0},
#endif
#if defined(WITH_SDOT)
    {"NEON dot product", has_sdot, multiply_sdot, activate_portably, quantise_portably, 0},
#endif
};

EXPORTED int32_t sdc_version(void) { return VERSION; }

EXPORTED void sdc_sizes(int64_t *model, int64_t *coder)
{
    *model = sizeof(Model);
    *coder = sizeof(Coder);
}

EXPORTED int32_t sdc_path_count(void) { return sizeof PATHS / sizeof *PATHS; }

EXPORTED const char *sdc_path_name(int32_t path) { return PATHS[path].name; }

EXPORTED int32_t sdc_path_runs(int32_t path) { return PATHS[path].runs(); }

/* The offset added to the inputs from the window and from the place itself. It makes sums of products too large by the
 * offset times the sum of the weights, for which the biases must compensate. */
EXPORTED int32_t sdc_path_offset(int32_t path) { return PATHS[path].offset; }

/* Packs weights (inputs, units) as (groups of four inputs, packed units, 4), padded with zeros. */
EXPORTED void sdc_pack(const int8_t *weights, int32_t inputs, int32_t units, int32_t packed_units, int8_t *packed)
{
    for (int32_t first = 0; first < inputs; first += GROUP)
        for (int32_t unit = 0; unit < packed_units; unit++)
            for (int32_t input = first; input < first + GROUP; input++)
                *packed++ = input < inputs && unit < units ? weights[(int64_t)input * units + unit] : 0;
}

/* ---- the network ---------------------------------------------------------------------------------------------- */

static uint8_t *place_of(const Work *work, int y, int x)
{
    return work->latents + (y + ROWS_ABOVE) * work->row_stride + (int64_t)(x + COLUMNS_BESIDE) * PLACE;
}

/* Collects the windows of n places of a wavefront, the first of them (y, x), and computes the window layer. */
static void compute_window_sums(const Model *model, Work *work, int y, int x, int n)
{
    for (int i = 0; i < n; i++, y++, x -= SLOPE) {
        uint8_t *to = work->windows[i];
        const uint8_t *from = place_of(work, y, x) - COLUMNS_BESIDE * PLACE;
        for (int above = ROWS_ABOVE; above > 1; above--, to += WHOLE_ROW)
            memcpy(to, from - above * work->row_stride, WHOLE_ROW);
        memcpy(to, from - work->row_stride, (COLUMNS_BESIDE + 1 + RIGHT_ABOVE) * PLACE);
        memcpy(to + (COLUMNS_BESIDE + 1 + RIGHT_ABOVE) * PLACE, from, COLUMNS_BESIDE * PLACE);
        memcpy(work->window_sums[i], model->window_bias, sizeof work->window_sums[i]);
        memset(work->here[i], PATHS[model->path].offset, GROUP);
    }
    PATHS[model->path].multiply(work->windows[0], sizeof work->windows[0], n, WINDOW_GROUPS, model->window,
                                CHANNELS * UNITS, work->window_sums[0], CHANNELS * UNITS);
}

static void compute_inner(const Model *model, Work *work, int n, int channel, const int8_t *weights,
                          const int32_t *bias)
{
    for (int i = 0; i < n; i++)
        memcpy(work->sums[i], bias + channel * UNITS, sizeof work->sums[i]);
    PATHS[model->path].multiply(work->hidden[0], UNITS, n, UNIT_GROUPS, weights + channel * UNITS * UNITS, UNITS,
                                work->sums[0], UNITS);
    PATHS[model->path].activate(work->sums[0], n * UNITS, 6, work->hidden[0]);
}

/* Computes a channel's outputs for n places. */
static void compute_outputs(const Model *model, Work *work, int n, int channel)
{
    Multiply *multiply = PATHS[model->path].multiply;
    for (int i = 0; i < n; i++)
        memcpy(work->sums[i], work->window_sums[i] + channel * UNITS, sizeof work->sums[i]);
    multiply(work->here[0], GROUP, n, 1, model->here + channel * GROUP * UNITS, UNITS, work->sums[0], UNITS);
    PATHS[model->path].activate(work->sums[0], n * UNITS, 7, work->hidden[0]);
    compute_inner(model, work, n, channel, model->inner0, model->inner0_bias);
    compute_inner(model, work, n, channel, model->inner1, model->inner1_bias);
    for (int i = 0; i < n; i++) {
        memset(work->outputs[i], 0, sizeof work->outputs[i]);
        memcpy(work->outputs[i], model->last_bias + channel * OUTPUTS, OUTPUTS * sizeof(int32_t));
    }
    multiply(work->hidden[0], UNITS, n, UNIT_GROUPS, model->last + channel * UNITS * WIDTH, WIDTH, work->outputs[0],
             WIDTH);
}

/* ---- mixtures ------------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t weight, means[2], inverse_scales[2];
    const int32_t *logistic_cdf;
} Mixture;

static int32_t clamp(int32_t index, int32_t largest) { return index < 0 ? 0 : index > largest ? largest : index; }

static Mixture mixture_of(const Model *model, const int32_t *outputs)
{
    Mixture mixture = {.logistic_cdf = model->logistic_cdf};
    mixture.weight = model->weights[clamp(((outputs[0] + 32) >> 6) + LOGIT_MIDDLE, 2 * LOGIT_MIDDLE)];
    for (int i = 0; i < 2; i++) {
        mixture.means[i] = (int64_t)outputs[1 + i] * OUTPUT_RATIO;
        const int32_t scale = clamp(((outputs[3 + i] + 32) >> 6) + LOG_SCALE_MIDDLE, MAX_LOG_SCALE);
        mixture.inverse_scales[i] = model->inverse_scales[scale];
    }
    return mixture;
}

static int64_t mixed(const Mixture *mixture, int64_t first, int64_t second)
{
    return second + ((mixture->weight * (first - second)) >> PRECISION);
}

static int64_t cdf(const Mixture *mixture, int64_t position)
{
    int64_t below[2];
    for (int i = 0; i < 2; i++) {
        const int64_t distance = (position - mixture->means[i]) * mixture->inverse_scales[i];
        const int64_t deviate = (distance >> INVERSE_BITS) + DEVIATE_MIDDLE;
        below[i] = mixture->logistic_cdf[deviate < 0 ? 0 : deviate > 2 * DEVIATE_MIDDLE ? 2 * DEVIATE_MIDDLE : deviate];
    }
    return mixed(mixture, below[0], below[1]);
}

/* Mean and variance of the mixture within a symbol's bin. */
static void centroid(const Model *model, const Mixture *mixture, int64_t position, double *mean, double *variance)
{
    const int64_t lower = position - (model->bin_width >> 1), width = model->bin_width;
    int64_t masses[SUBDIVISIONS], total = 0, first = 0, second = 0;
    int64_t below = cdf(mixture, lower);
    for (int i = 0; i < SUBDIVISIONS; i++) {
        const int64_t next = cdf(mixture, lower + width * (i + 1) / SUBDIVISIONS);
        masses[i] = next - below;
        total += masses[i];
        below = next;
    }
    for (int i = 0; i < SUBDIVISIONS; i++) {
        const int64_t mass = total ? masses[i] : 1, middle = 2 * i + 1;
        first += mass * middle;
        second += mass * middle * middle;
    }
    const double all = (double)(total ? total : SUBDIVISIONS);
    const double centre = (double)first / all, square = (double)second / all;
    const double unit = (double)width * POSITION_UNIT / (2 * SUBDIVISIONS);
    *mean = (double)lower * POSITION_UNIT + centre * unit;
    *variance = (square - centre * centre + 1.0 / 3) * (unit * unit);
}

/* ---- range coder ---------------------------------------------------------------------------------------------- */

static int decode_target(Coder *coder, int truncated, int64_t *target)
{
    if (truncated && coder->next > coder->length)
        return TRUNCATED;
    const uint64_t value = coder->offset / (coder->width >> PRECISION);
    if (value >> PRECISION)
        return DAMAGED;
    *target = (int64_t)value;
    return DONE;
}

static void consume(Coder *coder, int64_t begin, int64_t frequency)
{
    const uint64_t unit = coder->width >> PRECISION;
    coder->offset -= unit * (uint64_t)begin;
    coder->width = unit * (uint64_t)frequency;
    while (coder->width < BOTTOM) {
        const uint8_t byte = coder->next < coder->length ? coder->stream[coder->next] : 0;
        coder->next++;
        coder->offset = coder->offset << 8 | byte;
        coder->width <<= 8;
    }
}

static int encode_interval(Coder *coder, int64_t begin, int64_t frequency)
{
    const uint64_t unit = coder->width >> PRECISION;
    coder->offset += unit * (uint64_t)begin;
    coder->width = unit * (uint64_t)frequency;
    while (coder->width < BOTTOM) {
        if (coder->next >= coder->length)
            return FULL;
        if (coder->offset >= TOP) { /* a carry propagates through the bytes already written */
            int64_t last = coder->next - 1;
            while (coder->stream[last] == 0xFF)
                coder->stream[last--] = 0;
            coder->stream[last]++;
            coder->offset -= TOP;
        }
        coder->stream[coder->next++] = (uint8_t)(coder->offset >> 48);
        coder->offset = (coder->offset << 8) & (TOP - 1);
        coder->width <<= 8;
    }
    return DONE;
}

enum { BIT = 1 << (PRECISION - 1) };

static int decode_escape(Coder *coder, int truncated, int64_t *escape)
{
    int64_t target;
    int zeros = 0, status;
    while ((status = decode_target(coder, truncated, &target)) == DONE && target < BIT) {
        consume(coder, 0, BIT);
        if (++zeros > MAX_ESCAPE_BITS)
            return TOO_FAR;
    }
    if (status != DONE)
        return status;
    consume(coder, BIT, BIT);
    int64_t number = 1;
    for (int i = 0; i < zeros; i++) {
        if ((status = decode_target(coder, truncated, &target)) != DONE)
            return status;
        const int bit = target >= BIT;
        consume(coder, bit * BIT, BIT);
        number = number << 1 | bit;
    }
    *escape = number - 1;
    return DONE;
}

static int encode_escape(Coder *coder, int64_t escape)
{
    int length = 0;
    while ((escape + 1) >> length)
        length++;
    for (int place = 2 * length - 2; place >= 0; place--) {
        const int status = encode_interval(coder, BIT * (((escape + 1) >> place) & 1), BIT);
        if (status != DONE)
            return status;
    }
    return DONE;
}

/* ---- symbols -------------------------------------------------------------------------------------------------- */

static int64_t floor_divided(int64_t number, int64_t by) { return number / by - (number % by < 0); }

static int64_t position_of(const Model *model, int64_t symbol, int odd) { return (2 * symbol + odd) * model->step; }

/* Start of an interval in [0, 2^16), of any but the first. */
static int64_t interval_start(const Model *model, const Mixture *mixture, int64_t lowest, int odd, int64_t index)
{
    const int64_t edge = position_of(model, lowest + index - 1, odd) - model->step;
    const int64_t spread = ((int64_t)1 << PRECISION) - (2 * model->radius + 3);
    return (cdf(mixture, edge) * spread >> PROBABILITY_BITS) + index;
}

static int64_t lowest_of(const Model *model, const Mixture *mixture, int odd)
{
    const int64_t middle = mixed(mixture, mixture->means[0], mixture->means[1]);
    return floor_divided(middle + (1 - odd) * model->step, 2 * (int64_t)model->step) - model->radius;
}

static int decode_symbol(const Model *model, Coder *coder, int truncated, const Mixture *mixture, int odd,
                         int64_t *symbol)
{
    const int64_t lowest = lowest_of(model, mixture, odd), last = 2 * model->radius + 2;
    int64_t target, index = 0, end_index = last + 1, begin = 0, end = 1 << PRECISION;
    int status = decode_target(coder, truncated, &target);
    if (status != DONE)
        return status;
    while (end_index - index > 1) { /* the target lies in an interval from index to before end_index */
        const int64_t between = (index + end_index) / 2;
        const int64_t position = interval_start(model, mixture, lowest, odd, between);
        if (position <= target)
            index = between, begin = position;
        else
            end_index = between, end = position;
    }
    consume(coder, begin, end - begin);
    int64_t escape = 0;
    if (index == 0 || index == last) {
        status = decode_escape(coder, truncated, &escape);
        if (status != DONE)
            return status;
    }
    *symbol = lowest + index - 1 + (index ? escape : -escape);
    return DONE;
}

static int encode_symbol(const Model *model, Coder *coder, const Mixture *mixture, int odd, int64_t symbol)
{
    const int64_t lowest = lowest_of(model, mixture, odd), last = 2 * model->radius + 2;
    const int64_t place = symbol - lowest + 1;
    const int64_t index = place < 0 ? 0 : place > last ? last : place;
    const int64_t begin = index ? interval_start(model, mixture, lowest, odd, index) : 0;
    const int64_t end = index < last ? interval_start(model, mixture, lowest, odd, index + 1) : 1 << PRECISION;
    const int status = encode_interval(coder, begin, end - begin);
    if (status != DONE || (index && index < last))
        return status;
    return encode_escape(coder, index ? place - last : -place);
}

/* ---- pictures ------------------------------------------------------------------------------------------------- */

EXPORTED int64_t sdc_work_bytes(int64_t columns)
{
    return (int64_t)sizeof(Work) + (BAND + ROWS_ABOVE) * (columns + 2 * COLUMNS_BESIDE) * PLACE;
}

/* Processes the symbols of the band of a picture that starts at the row top, in coding order. The bands of a picture
 * must be passed one after another, from the top, with the same memory and the same coder.
 *
 * symbols, means, variances: (4, rows, columns). READ and READ_TRUNCATED set symbols, WRITE and PREDICT use them. All
 * but WRITE set means and variances of known symbols. memory: sdc_work_bytes(columns) bytes, aligned to 8.
 */
EXPORTED int32_t sdc_run_band(const Model *model, int32_t operation, int64_t rows, int64_t columns, int64_t top,
                              Coder *coder, int64_t *symbols, double *means, double *variances, void *memory)
{
    Work *work = memory;
    const uint8_t offset = PATHS[model->path].offset;
    if (!top)
        memset(work, offset, (size_t)sdc_work_bytes(columns));
    work->latents = (uint8_t *)(work + 1);
    work->row_stride = (columns + 2 * COLUMNS_BESIDE) * PLACE;
    const int band = (int)(rows - top < BAND ? rows - top : BAND);
    if (top)
        memcpy(work->latents, work->latents + BAND * work->row_stride, (size_t)(ROWS_ABOVE * work->row_stride));
    memset(work->states, 0, sizeof work->states);
    for (int y = 0; y < band; y++) {
        memset(place_of(work, y, -COLUMNS_BESIDE), offset, (size_t)work->row_stride);
        for (int64_t x = 0; x < columns; x++)
            place_of(work, y, (int)x)[CHANNELS] = (uint8_t)(INSIDE + offset);
    }
    for (int64_t front = 0; front < columns + SLOPE * (band - 1); front++) {
        const int64_t beyond = front - columns + 1;
        const int first = beyond > 0 ? (int)((beyond + SLOPE - 1) / SLOPE) : 0;
        const int last = front / SLOPE < band - 1 ? (int)(front / SLOPE) : band - 1;
        const int n = last - first + 1;
        if (n < 1)
            continue; /* pictures of one or two columns have empty wavefronts */
        compute_window_sums(model, work, first, (int)(front - SLOPE * first), n);
        for (int channel = 0; channel < CHANNELS; channel++) {
            compute_outputs(model, work, n, channel);
            for (int i = 0; i < n; i++) {
                const int y = first + i, x = (int)(front - SLOPE * y);
                const int64_t index = (channel * rows + top + y) * columns + x;
                uint8_t *state = &work->states[channel][y];
                const int odd = model->is_trellis ? parity(*state & ODD_CHECK) : 0;
                const Mixture mixture = mixture_of(model, work->outputs[i]);
                int status = DONE;
                if (operation == WRITE)
                    status = encode_symbol(model, coder, &mixture, odd, symbols[index]);
                else if (operation != PREDICT)
                    status = decode_symbol(model, coder, operation == READ_TRUNCATED, &mixture, odd, &symbols[index]);
                if (status == TRUNCATED) /* drop the channel's incomplete wavefront */
                    for (int j = 0; j < i; j++) {
                        const int64_t before = index + (i - j) * (SLOPE - columns);
                        means[before] = 0;
                        variances[before] = -1;
                    }
                if (status != DONE)
                    return status;
                const int64_t position = position_of(model, symbols[index], odd);
                if (operation != WRITE)
                    centroid(model, &mixture, position, &means[index], &variances[index]);
                const int64_t rounded = (position + 128) >> 8;
                const int64_t input = rounded < -MAX_INT8 ? -MAX_INT8 : rounded > MAX_INT8 ? MAX_INT8 : rounded;
                place_of(work, y, x)[channel] = work->here[i][channel] = (uint8_t)(input + offset);
                const int flipped = parity(*state & FLIP_CHECK);
                *state = (uint8_t)((2 * *state % STATES) | ((int)(symbols[index] & 1) ^ flipped));
            }
        }
    }
    return DONE;
}

/* ---- trellis -------------------------------------------------------------------------------------------------- */

/* Sets the symbols (chains, places) whose values have the least mean squared error to the targets, in steps, over each
 * chain. memory: sdc_quantise_bytes(places) bytes, aligned to 8. */
EXPORTED void sdc_quantise(int32_t path, const double *targets, int64_t chains, int64_t places, int64_t *symbols,
                           void *memory)
{
    for (int64_t chain = 0; chain < chains; chain++)
        PATHS[path].quantise(targets + chain * places, places, symbols + chain * places, memory);
}

EXPORTED int64_t sdc_quantise_bytes(int64_t places) { return places * (int64_t)sizeof(Step); }
