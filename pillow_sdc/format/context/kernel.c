/* The inner loop of the codec "context": windows, network, mixtures, range coder, trellis.
 *
 * It gives the integers that context_stream.py, context_network.py, mixtures.py, range_coder.py and trellis.py give,
 * which are the reference and explain the format. Nothing is allocated here: the caller brings all memory. Every read
 * of a stream is bounded by its length. Symbols are bounded, too, by LARGEST_ESCAPE_BITS and by the network's
 * sums, which stay below 2^24: so positions stay below 2^37, and their products with inverse scales below 2^60.
 *
 * Compiled without contraction of floating-point operations (-ffp-contract=off), so that each is rounded by itself.
 * Shifts of negative numbers to the right round down: C leaves that to the compiler, and GCC and Clang promise it.
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
    PLACE = CHANNELS + 1, /* numbers that are seen of a place: its latents, and whether it is inside the picture */
    OUTPUTS = 5,
    UNITS = 96,
    ROWS_ABOVE = 4,
    COLUMNS_BESIDE = 4,
    RIGHT_ABOVE = 2,
    SLOPE = RIGHT_ABOVE + 1,
    WHOLE_ROW = (2 * COLUMNS_BESIDE + 1) * PLACE,
    SEEN = (ROWS_ABOVE - 1) * WHOLE_ROW + (COLUMNS_BESIDE + 1 + RIGHT_ABOVE) * PLACE + COLUMNS_BESIDE * PLACE,
    INSIDE = 32,
    LARGEST = 127,
    BAND = 128, /* also the most places of a wavefront */

    GROUP = 4,                                         /* inputs that one instruction multiplies and adds */
    SEEN_GROUPS = (SEEN + GROUP - 1) / GROUP,
    UNIT_GROUPS = UNITS / GROUP,
    WIDTH = 16,                                        /* units of a vector; those of the last layer are padded to it */

    LOGIT_MIDDLE = 128,
    LOG_SCALE_MIDDLE = 80,
    LARGEST_LOG_SCALE = 112,
    DEVIATE_MIDDLE = 3072,
    PRECISION = 16,
    PROBABILITY_BITS = 24,
    INVERSE_BITS = 20,
    OUTPUT_RATIO = 8, /* units of position in one of the network's outputs */
    SUBDIVISIONS = 8,
    LARGEST_ESCAPE_BITS = 20,

    STATES = 64,
    ODD_IF = 0x0A,
    FLIPPED_IF = 0x21
};

#define TOP ((uint64_t)1 << 56)
#define BOTTOM (TOP >> 8)
#define POSITION_UNIT (1.0 / 8192)

enum task { READ, READ_BEGINNING, WRITE, PREDICT };
enum result { DONE, DAMAGED, TOO_FAR, TRUNCATED, FULL };

typedef struct {
    /* Packed by sdc_pack. */
    const int8_t *window; /* 190 inputs, 4 * 96 units */
    const int8_t *here;   /* by channel: 4 inputs, 96 units */
    const int8_t *inner0, *inner1; /* by channel: 96 inputs, 96 units */
    const int8_t *last;   /* by channel: 96 inputs, 16 units, of which 5 count */
    /* Under the picture's conditions, by channel and unit. */
    const int32_t *window_bias, *inner0_bias, *inner1_bias, *last_bias;
    /* Tables of mixtures.py. */
    const int32_t *weights, *inverse_scales, *probabilities;
    int32_t step, cell, beside, is_trellis;
    int32_t path;
} Model;

typedef struct {
    uint8_t *stream;
    int64_t length; /* of the stream that is read, or of the memory for the one that is written */
    int64_t next;
    uint64_t width, number; /* the number is what Decoder calls the offset, and the encoder's low end */
} Coder;

typedef struct {
    uint8_t seen[BAND][SEEN_GROUPS * GROUP];
    int32_t started[BAND][CHANNELS * UNITS];
    uint8_t here[BAND][GROUP];
    int32_t sums[BAND][UNITS];
    uint8_t hidden[BAND][UNITS];
    int32_t outputs[BAND][WIDTH];
    uint8_t states[CHANNELS][BAND];
    uint8_t *latents; /* (BAND + 4, columns + 8, 5), as SeenLatents keeps them */
    int64_t row_stride;
} Work;

/* ---- products of matrices ------------------------------------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline))
#define TARGET(features) __attribute__((target(features)))

/* Adds to out (n, units) the products of x (n, 4 * groups) with packed weights (groups, units, 4). */
typedef void Multiply(const uint8_t *x, int64_t x_stride, int n, int groups, const int8_t *weights, int units,
                      int32_t *out, int64_t out_stride);

/* A function that goes through the matrix in tiles of four places by some vectors of units, whose sums stay in
 * registers. The tile's function is inlined with constants, so that its loops unroll. */
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

/* Sums of products, in the unit of inner values: some bits fewer, rounded, rectified, eight bits at most. */
typedef void Activate(const int32_t *sums, int count, int bits, uint8_t *hidden);

INLINE void activate(const int32_t *sums, int count, int bits, uint8_t *hidden)
{
    for (int i = 0; i < count; i++) {
        const int32_t value = (sums[i] + (1 << (bits - 1))) >> bits;
        hidden[i] = (uint8_t)(value < 0 ? 0 : value > LARGEST ? LARGEST : value);
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
    HALF = STATES / 2, /* the states from and from + HALF lead to 2 * from and 2 * from + 1, each by one parity */
    LANES = 4          /* neighbouring states; ODD_IF and FLIPPED_IF have one bit each among these */
};

typedef struct {
    double errors[2][2][LANES]; /* squared, of the value on the way from a state; error_of says where which is */
    double costs[STATES];       /* the least that the ways to each state cost, with this place's error */
} Step;

/* Sets a chain's symbols, steps being memory for one of each. */
typedef void Quantise(const double *wanted, int64_t places, int64_t *symbols, Step *steps);

INLINE double nearest(double wanted, int residue) { return residue + 4 * rint((wanted - residue) / 4); }

INLINE const double *errors_of(const Step *step, int from, int bit)
{
    return step->errors[from >> 3 & 1][bit ^ (from >> 5 & 1)];
}

INLINE int residue_of(int from, int bit) { return parity(from & ODD_IF) + 2 * (bit ^ parity(from & FLIPPED_IF)); }

INLINE void quantise(const double *wanted, int64_t places, int64_t *symbols, Step *steps)
{
    for (int64_t place = 0; place < places; place++) {
        double errors[4];
        for (int residue = 0; residue < 4; residue++) {
            const double error = nearest(wanted[place], residue) - wanted[place];
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
        symbols[place] = (int64_t)floor(nearest(wanted[place], residue_of(state, bit)) / 2);
    }
}

static void quantise_portably(const double *wanted, int64_t places, int64_t *symbols, Step *steps)
{
    quantise(wanted, places, symbols, steps);
}

static int always(void) { return 1; }

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define WITH_AVX_VNNI
#endif

/* pmaddwd, which all have: as below, in vectors of 128 bits. */
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

TARGET("avx2") static void quantise_avx2(const double *wanted, int64_t places, int64_t *symbols, Step *steps)
{
    quantise(wanted, places, symbols, steps);
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }

#if defined(WITH_AVX_VNNI)
static int has_avx_vnni(void) /* __builtin_cpu_supports knows its name in late compilers only */
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

/* smull and sadalp, which all have: each unit has two sums until the end. */
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
    return 1; /* as all of Apple's processors that run macOS have it */
#endif
}
#endif

static const struct {
    const char *name;
    int (*runs)(void); /* whether this processor has what it takes */
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

/* What is added to inputs of the first layer and of the place itself; their sums of products are too large by as many
 * times the sum of the weights, which the biases must make up for. */
EXPORTED int32_t sdc_path_offset(int32_t path) { return PATHS[path].offset; }

/* Packs weights (inputs, units) as (groups of four inputs, packed units, 4), zeros where there are none. */
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

/* Collects what is seen around n places of a wavefront, of which the first is (y, x), and begins all channels. */
static void start(const Model *model, Work *work, int y, int x, int n)
{
    for (int i = 0; i < n; i++, y++, x -= SLOPE) {
        uint8_t *to = work->seen[i];
        const uint8_t *from = place_of(work, y, x) - COLUMNS_BESIDE * PLACE;
        for (int above = ROWS_ABOVE; above > 1; above--, to += WHOLE_ROW)
            memcpy(to, from - above * work->row_stride, WHOLE_ROW);
        memcpy(to, from - work->row_stride, (COLUMNS_BESIDE + 1 + RIGHT_ABOVE) * PLACE);
        memcpy(to + (COLUMNS_BESIDE + 1 + RIGHT_ABOVE) * PLACE, from, COLUMNS_BESIDE * PLACE);
        memcpy(work->started[i], model->window_bias, sizeof work->started[i]);
        memset(work->here[i], PATHS[model->path].offset, GROUP);
    }
    PATHS[model->path].multiply(work->seen[0], sizeof work->seen[0], n, SEEN_GROUPS, model->window, CHANNELS * UNITS,
                                work->started[0], CHANNELS * UNITS);
}

static void inner(const Model *model, Work *work, int n, int channel, const int8_t *weights, const int32_t *bias)
{
    for (int i = 0; i < n; i++)
        memcpy(work->sums[i], bias + channel * UNITS, sizeof work->sums[i]);
    PATHS[model->path].multiply(work->hidden[0], UNITS, n, UNIT_GROUPS, weights + channel * UNITS * UNITS, UNITS,
                                work->sums[0], UNITS);
    PATHS[model->path].activate(work->sums[0], n * UNITS, 6, work->hidden[0]);
}

/* Computes a channel's outputs for n places. */
static void finish(const Model *model, Work *work, int n, int channel)
{
    Multiply *multiply = PATHS[model->path].multiply;
    for (int i = 0; i < n; i++)
        memcpy(work->sums[i], work->started[i] + channel * UNITS, sizeof work->sums[i]);
    multiply(work->here[0], GROUP, n, 1, model->here + channel * GROUP * UNITS, UNITS, work->sums[0], UNITS);
    PATHS[model->path].activate(work->sums[0], n * UNITS, 7, work->hidden[0]);
    inner(model, work, n, channel, model->inner0, model->inner0_bias);
    inner(model, work, n, channel, model->inner1, model->inner1_bias);
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
    const int32_t *probabilities;
} Mixture;

static int32_t limited(int32_t index, int32_t largest) { return index < 0 ? 0 : index > largest ? largest : index; }

static Mixture mixture_of(const Model *model, const int32_t *outputs)
{
    Mixture mixture = {.probabilities = model->probabilities};
    mixture.weight = model->weights[limited(((outputs[0] + 32) >> 6) + LOGIT_MIDDLE, 2 * LOGIT_MIDDLE)];
    for (int i = 0; i < 2; i++) {
        mixture.means[i] = (int64_t)outputs[1 + i] * OUTPUT_RATIO;
        const int32_t scale = limited(((outputs[3 + i] + 32) >> 6) + LOG_SCALE_MIDDLE, LARGEST_LOG_SCALE);
        mixture.inverse_scales[i] = model->inverse_scales[scale];
    }
    return mixture;
}

static int64_t mixed(const Mixture *mixture, int64_t first, int64_t second)
{
    return second + ((mixture->weight * (first - second)) >> PRECISION);
}

static int64_t probability_below(const Mixture *mixture, int64_t position)
{
    int64_t below[2];
    for (int i = 0; i < 2; i++) {
        const int64_t distance = (position - mixture->means[i]) * mixture->inverse_scales[i];
        const int64_t deviate = (distance >> INVERSE_BITS) + DEVIATE_MIDDLE;
        below[i] = mixture->probabilities[deviate < 0 ? 0 : deviate > 2 * DEVIATE_MIDDLE ? 2 * DEVIATE_MIDDLE : deviate];
    }
    return mixed(mixture, below[0], below[1]);
}

/* Mean and variance of the mixture within a symbol's cell. */
static void centroid(const Model *model, const Mixture *mixture, int64_t position, double *mean, double *variance)
{
    const int64_t lower = position - (model->cell >> 1), width = model->cell;
    int64_t masses[SUBDIVISIONS], total = 0, first = 0, second = 0;
    int64_t below = probability_below(mixture, lower);
    for (int i = 0; i < SUBDIVISIONS; i++) {
        const int64_t next = probability_below(mixture, lower + width * (i + 1) / SUBDIVISIONS);
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

static int decode_target(Coder *coder, int may_be_cut, int64_t *target)
{
    if (may_be_cut && coder->next > coder->length)
        return TRUNCATED;
    const uint64_t value = coder->number / (coder->width >> PRECISION);
    if (value >> PRECISION)
        return DAMAGED;
    *target = (int64_t)value;
    return DONE;
}

static void consume(Coder *coder, int64_t begin, int64_t frequency)
{
    const uint64_t unit = coder->width >> PRECISION;
    coder->number -= unit * (uint64_t)begin;
    coder->width = unit * (uint64_t)frequency;
    while (coder->width < BOTTOM) {
        const uint8_t following = coder->next < coder->length ? coder->stream[coder->next] : 0;
        coder->next++;
        coder->number = coder->number << 8 | following;
        coder->width <<= 8;
    }
}

static int encode_share(Coder *coder, int64_t begin, int64_t frequency)
{
    const uint64_t unit = coder->width >> PRECISION;
    coder->number += unit * (uint64_t)begin;
    coder->width = unit * (uint64_t)frequency;
    while (coder->width < BOTTOM) {
        if (coder->next >= coder->length)
            return FULL;
        if (coder->number >= TOP) { /* a carry runs through the bytes that left */
            int64_t last = coder->next - 1;
            while (coder->stream[last] == 0xFF)
                coder->stream[last--] = 0;
            coder->stream[last]++;
            coder->number -= TOP;
        }
        coder->stream[coder->next++] = (uint8_t)(coder->number >> 48);
        coder->number = (coder->number << 8) & (TOP - 1);
        coder->width <<= 8;
    }
    return DONE;
}

enum { BIT = 1 << (PRECISION - 1) };

static int decode_escape(Coder *coder, int may_be_cut, int64_t *escape)
{
    int64_t target;
    int zeros = 0, result;
    while ((result = decode_target(coder, may_be_cut, &target)) == DONE && target < BIT) {
        consume(coder, 0, BIT);
        if (++zeros > LARGEST_ESCAPE_BITS)
            return TOO_FAR;
    }
    if (result != DONE)
        return result;
    consume(coder, BIT, BIT);
    int64_t number = 1;
    for (int i = 0; i < zeros; i++) {
        if ((result = decode_target(coder, may_be_cut, &target)) != DONE)
            return result;
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
        const int result = encode_share(coder, BIT * (((escape + 1) >> place) & 1), BIT);
        if (result != DONE)
            return result;
    }
    return DONE;
}

/* ---- symbols -------------------------------------------------------------------------------------------------- */

static int64_t floor_divided(int64_t number, int64_t by) { return number / by - (number % by < 0); }

static int64_t position_of(const Model *model, int64_t number, int odd) { return (2 * number + odd) * model->step; }

/* Where a share begins in [0, 2^16); it is none of the outermost. */
static int64_t share_start(const Model *model, const Mixture *mixture, int64_t lowest, int odd, int64_t share)
{
    const int64_t edge = position_of(model, lowest + share - 1, odd) - model->step;
    const int64_t spread = ((int64_t)1 << PRECISION) - (2 * model->beside + 3);
    return (probability_below(mixture, edge) * spread >> PROBABILITY_BITS) + share;
}

static int64_t lowest_of(const Model *model, const Mixture *mixture, int odd)
{
    const int64_t middle = mixed(mixture, mixture->means[0], mixture->means[1]);
    return floor_divided(middle + (1 - odd) * model->step, 2 * (int64_t)model->step) - model->beside;
}

static int decode_symbol(const Model *model, Coder *coder, int may_be_cut, const Mixture *mixture, int odd,
                         int64_t *number)
{
    const int64_t lowest = lowest_of(model, mixture, odd), last = 2 * model->beside + 2;
    int64_t target, share = 0, end_share = last + 1, begin = 0, end = 1 << PRECISION;
    int result = decode_target(coder, may_be_cut, &target);
    if (result != DONE)
        return result;
    while (end_share - share > 1) { /* the share that holds the target begins at share or later, before end_share */
        const int64_t between = (share + end_share) / 2;
        const int64_t position = share_start(model, mixture, lowest, odd, between);
        if (position <= target)
            share = between, begin = position;
        else
            end_share = between, end = position;
    }
    consume(coder, begin, end - begin);
    int64_t escape = 0;
    if (share == 0 || share == last) {
        result = decode_escape(coder, may_be_cut, &escape);
        if (result != DONE)
            return result;
    }
    *number = lowest + share - 1 + (share ? escape : -escape);
    return DONE;
}

static int encode_symbol(const Model *model, Coder *coder, const Mixture *mixture, int odd, int64_t number)
{
    const int64_t lowest = lowest_of(model, mixture, odd), last = 2 * model->beside + 2;
    const int64_t place = number - lowest + 1;
    const int64_t share = place < 0 ? 0 : place > last ? last : place;
    const int64_t begin = share ? share_start(model, mixture, lowest, odd, share) : 0;
    const int64_t end = share < last ? share_start(model, mixture, lowest, odd, share + 1) : 1 << PRECISION;
    const int result = encode_share(coder, begin, end - begin);
    if (result != DONE || (share && share < last))
        return result;
    return encode_escape(coder, share ? place - last : -place);
}

/* ---- pictures ------------------------------------------------------------------------------------------------- */

EXPORTED int64_t sdc_work_bytes(int64_t columns)
{
    return (int64_t)sizeof(Work) + (BAND + ROWS_ABOVE) * (columns + 2 * COLUMNS_BESIDE) * PLACE;
}

/* Goes through the symbols of a picture's band that begins at the row top, in the order of coding. The bands of a
 * picture are to be given one after another, from the top, with the same memory and the same coder.
 *
 * numbers, means, variances: (4, rows, columns). READ and READ_BEGINNING set numbers, WRITE and PREDICT take them. All
 * but WRITE set means and variances, of the symbols that are there. memory: of sdc_work_bytes(columns), aligned to 8.
 */
EXPORTED int32_t sdc_run_band(const Model *model, int32_t task, int64_t rows, int64_t columns, int64_t top,
                              Coder *coder, int64_t *numbers, double *means, double *variances, void *memory)
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
            continue; /* pictures of one or two columns leave gaps */
        start(model, work, first, (int)(front - SLOPE * first), n);
        for (int channel = 0; channel < CHANNELS; channel++) {
            finish(model, work, n, channel);
            for (int i = 0; i < n; i++) {
                const int y = first + i, x = (int)(front - SLOPE * y);
                const int64_t index = (channel * rows + top + y) * columns + x;
                uint8_t *state = &work->states[channel][y];
                const int odd = model->is_trellis ? parity(*state & ODD_IF) : 0;
                const Mixture mixture = mixture_of(model, work->outputs[i]);
                int result = DONE;
                if (task == WRITE)
                    result = encode_symbol(model, coder, &mixture, odd, numbers[index]);
                else if (task != PREDICT)
                    result = decode_symbol(model, coder, task == READ_BEGINNING, &mixture, odd, &numbers[index]);
                if (result == TRUNCATED) /* what did not arrive whole, of a channel's wavefront, did not arrive */
                    for (int j = 0; j < i; j++) {
                        const int64_t before = index + (i - j) * (SLOPE - columns);
                        means[before] = 0;
                        variances[before] = -1;
                    }
                if (result != DONE)
                    return result;
                const int64_t position = position_of(model, numbers[index], odd);
                if (task != WRITE)
                    centroid(model, &mixture, position, &means[index], &variances[index]);
                const int64_t rounded = (position + 128) >> 8;
                const int64_t seen = rounded < -LARGEST ? -LARGEST : rounded > LARGEST ? LARGEST : rounded;
                place_of(work, y, x)[channel] = work->here[i][channel] = (uint8_t)(seen + offset);
                const int flipped = parity(*state & FLIPPED_IF);
                *state = (uint8_t)((2 * *state % STATES) | ((int)(numbers[index] & 1) ^ flipped));
            }
        }
    }
    return DONE;
}

/* ---- trellis -------------------------------------------------------------------------------------------------- */

/* Sets the symbols (chains, places) whose values are nearest to those wanted, in steps, in mean square over a chain.
 * memory: of sdc_quantise_bytes(places), aligned to 8. */
EXPORTED void sdc_quantise(int32_t path, const double *wanted, int64_t chains, int64_t places, int64_t *symbols,
                           void *memory)
{
    for (int64_t chain = 0; chain < chains; chain++)
        PATHS[path].quantise(wanted + chain * places, places, symbols + chain * places, memory);
}

EXPORTED int64_t sdc_quantise_bytes(int64_t places) { return places * (int64_t)sizeof(Step); }
