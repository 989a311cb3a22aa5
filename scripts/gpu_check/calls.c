/*
 * What seqferry's ranks call of libcudart and libnccl, called from C: the measure of what seqferry adds.
 *
 *   calls CUDART NCCL DEVICE RANK WORLD_SIZE CALLS_FILE
 *
 * Both libraries are opened by path, as seqferry opens them, so that the same file runs on a GPU and on the stand-in, and needs no header. The file of
 * calls is what scripts/gpu_check/workload.ts writes: one call a line, in the order in which a rank makes them in one phase.
 *
 *   buffers SOURCE PACKED TARGET      bytes of the three buffers
 *   copy TO FROM BYTES                from the source buffer into the packed one
 *   recv OFFSET BYTES PEER            into the target buffer
 *   send s|p OFFSET BYTES PEER        from the source buffer, or the packed one
 *   item ...                          (for another reader)
 *
 * Commands come on standard input, one JSON string a line; answers are lines that begin with a word of their own, as in protocol.ts.
 *
 *   "id"            -> the unique id in hexadecimal
 *   "join ID"       -> null, when all ranks have joined
 *   "time ROUNDS"   -> milliseconds of each round: copies, group, until the event behind it is complete
 *   "issue ROUNDS"  -> nanoseconds for one call of ncclSend or ncclRecv, of each round
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER "gpu-check-answer "

typedef struct {
    char bytes[128];
} unique_id;

/* ncclConfig_t of 2.30, of which older releases take what they know. */
typedef struct {
    size_t size;
    unsigned int magic, version;
    int blocking;
    int rest[19];
} config;

/* struct cudaMemcpyAttributes. */
typedef struct {
    int order;
    int hints[4];
    unsigned int flags;
} attributes;

enum { SUCCESS = 0, IN_PROGRESS = 7, NOT_READY = 600, UINT8 = 1, DEVICE_TO_DEVICE = 3, IN_STREAM_ORDER = 1 };

static struct {
    int (*cudaSetDevice)(int);
    int (*cudaRuntimeGetVersion)(int *);
    int (*cudaMalloc)(void **, size_t);
    int (*cudaMemset)(void *, int, size_t);
    int (*cudaDeviceSynchronize)(void);
    int (*cudaStreamCreateWithFlags)(void **, unsigned int);
    int (*cudaEventCreateWithFlags)(void **, unsigned int);
    int (*cudaEventRecord)(void *, void *);
    int (*cudaEventQuery)(void *);
    int (*cudaMemcpyAsync)(void *, const void *, size_t, int, void *);
    /* Two signatures under one name: see batch_12 and batch_13. */
    void *cudaMemcpyBatchAsync;
    int (*ncclGetVersion)(int *);
    int (*ncclGetUniqueId)(unique_id *);
    int (*ncclCommInitRankConfig)(void **, int, unique_id, int, config *);
    int (*ncclCommGetAsyncError)(void *, int *);
    int (*ncclGroupStart)(void);
    int (*ncclGroupEnd)(void);
    int (*ncclSend)(const void *, size_t, int, int, void *, void *);
    int (*ncclRecv)(void *, size_t, int, int, void *, void *);
} call;

typedef int (*batch_12)(void **, void **, size_t *, size_t, attributes *, size_t *, size_t, size_t *, void *);
typedef int (*batch_13)(void **, void **, size_t *, size_t, attributes *, size_t *, size_t, void *);

typedef struct {
    char kind; /* 'r', 's' from the source, 'p' from the packed buffer */
    size_t offset, bytes;
    int peer;
} operation;

static void *source, *packed, *target, *stream, *event, *comm;
static void **copy_to, **copy_from;
static size_t *copy_bytes, copies, operations;
static operation *operation_list;
static int cuda_version, nccl_version, device, rank, world_size;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *at = text; *at != '\0'; at++)
        if (*at == '"' || *at == '\\' || (unsigned char)*at < 32) *at = '\'';
    printf(ANSWER "{\"error\": {\"name\": \"Error\", \"message\": \"%s\"}, \"ms\": 0}\n", text);
    fflush(stdout);
    exit(1);
}

static void check(int code, const char *what)
{
    if (code != SUCCESS && code != IN_PROGRESS) fail("%s answered %d", what, code);
}

static void resolve(void *library, const char *name, void *into, int optional)
{
    void *symbol = dlsym(library, name);
    if (symbol == NULL && !optional) fail("%s is missing", name);
    memcpy(into, &symbol, sizeof symbol);
}

#define RESOLVE(library, name) resolve(library, #name, &call.name, 0)

static void open_libraries(const char *cudart_path, const char *nccl_path)
{
    void *cudart = dlopen(cudart_path, RTLD_NOW | RTLD_LOCAL);
    if (cudart == NULL) fail("%s", dlerror());
    void *nccl = dlopen(nccl_path, RTLD_NOW | RTLD_LOCAL);
    if (nccl == NULL) fail("%s", dlerror());
    RESOLVE(cudart, cudaSetDevice);
    RESOLVE(cudart, cudaRuntimeGetVersion);
    RESOLVE(cudart, cudaMalloc);
    RESOLVE(cudart, cudaMemset);
    RESOLVE(cudart, cudaDeviceSynchronize);
    RESOLVE(cudart, cudaStreamCreateWithFlags);
    RESOLVE(cudart, cudaEventCreateWithFlags);
    RESOLVE(cudart, cudaEventRecord);
    RESOLVE(cudart, cudaEventQuery);
    RESOLVE(cudart, cudaMemcpyAsync);
    resolve(cudart, "cudaMemcpyBatchAsync", &call.cudaMemcpyBatchAsync, 1);
    RESOLVE(nccl, ncclGetVersion);
    RESOLVE(nccl, ncclGetUniqueId);
    RESOLVE(nccl, ncclCommInitRankConfig);
    RESOLVE(nccl, ncclCommGetAsyncError);
    RESOLVE(nccl, ncclGroupStart);
    RESOLVE(nccl, ncclGroupEnd);
    RESOLVE(nccl, ncclSend);
    RESOLVE(nccl, ncclRecv);
}

static void *allocate(size_t bytes)
{
    void *memory;
    check(call.cudaMalloc(&memory, bytes > 0 ? bytes : 1), "cudaMalloc");
    return memory;
}

static void *room(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) fail("there is no memory for %zu entries", count);
    return memory;
}

static void read_calls(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) fail("%s cannot be read", path);
    char line[256];
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            copy_to = room(copies, sizeof *copy_to);
            copy_from = room(copies, sizeof *copy_from);
            copy_bytes = room(copies, sizeof *copy_bytes);
            operation_list = room(operations, sizeof *operation_list);
            copies = operations = 0;
            rewind(file);
        }
        while (fgets(line, sizeof line, file) != NULL) {
            size_t a, b, c;
            int peer;
            char from;
            if (sscanf(line, "buffers %zu %zu %zu", &a, &b, &c) == 3) {
                if (pass == 0) continue;
                source = allocate(a);
                packed = allocate(b);
                target = allocate(c);
                check(call.cudaMemset(source, 1, a), "cudaMemset");
                check(call.cudaMemset(packed, 2, b), "cudaMemset");
                check(call.cudaMemset(target, 3, c), "cudaMemset");
            } else if (sscanf(line, "copy %zu %zu %zu", &a, &b, &c) == 3) {
                if (pass == 1) {
                    copy_to[copies] = (char *)packed + a;
                    copy_from[copies] = (char *)source + b;
                    copy_bytes[copies] = c;
                }
                copies++;
            } else if (sscanf(line, "recv %zu %zu %d", &a, &b, &peer) == 3) {
                if (pass == 1) operation_list[operations] = (operation){ 'r', a, b, peer };
                operations++;
            } else if (sscanf(line, "send %c %zu %zu %d", &from, &a, &b, &peer) == 4) {
                if (pass == 1) operation_list[operations] = (operation){ from, a, b, peer };
                operations++;
            }
        }
    }
    fclose(file);
    check(call.cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

static void settle(void)
{
    int state = IN_PROGRESS;
    while (state == IN_PROGRESS) check(call.ncclCommGetAsyncError(comm, &state), "ncclCommGetAsyncError");
    check(state, "the communicator");
}

static double now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void pack(void)
{
    if (copies == 0) return;
    attributes order = { .order = IN_STREAM_ORDER };
    size_t first = 0, failed;
    int code = SUCCESS;
    if (cuda_version >= 13000 && call.cudaMemcpyBatchAsync != NULL) {
        batch_13 batch;
        memcpy(&batch, &call.cudaMemcpyBatchAsync, sizeof batch);
        code = batch(copy_to, copy_from, copy_bytes, copies, &order, &first, 1, stream);
    } else if (cuda_version >= 12080 && call.cudaMemcpyBatchAsync != NULL) {
        batch_12 batch;
        memcpy(&batch, &call.cudaMemcpyBatchAsync, sizeof batch);
        code = batch(copy_to, copy_from, copy_bytes, copies, &order, &first, 1, &failed, stream);
    } else {
        for (size_t i = 0; i < copies && code == SUCCESS; i++)
            code = call.cudaMemcpyAsync(copy_to[i], copy_from[i], copy_bytes[i], DEVICE_TO_DEVICE, stream);
    }
    check(code, "the copies");
}

/* Answers nanoseconds for one call. */
static double group(void)
{
    check(call.cudaSetDevice(device), "cudaSetDevice");
    check(call.ncclGroupStart(), "ncclGroupStart");
    double started = now_ns();
    for (size_t i = 0; i < operations; i++) {
        const operation *one = &operation_list[i];
        if (one->kind == 'r') {
            check(call.ncclRecv((char *)target + one->offset, one->bytes, UINT8, one->peer, comm, stream), "ncclRecv");
        } else {
            char *base = one->kind == 's' ? source : packed;
            check(call.ncclSend(base + one->offset, one->bytes, UINT8, one->peer, comm, stream), "ncclSend");
        }
    }
    double taken = now_ns() - started;
    check(call.ncclGroupEnd(), "ncclGroupEnd");
    settle();
    check(call.cudaEventRecord(event, stream), "cudaEventRecord");
    return taken / (double)(operations > 0 ? operations : 1);
}

static void finish(void)
{
    int code;
    do {
        /* Between two looks at the event one at the communicator, as whoever waits for a peer has to. */
        settle();
        code = call.cudaEventQuery(event);
    } while (code == NOT_READY);
    check(code, "cudaEventQuery");
}

static void answer_rounds(int rounds, int issue)
{
    double *values = room((size_t)rounds, sizeof *values);
    for (int i = 0; i < rounds; i++) {
        double started = now_ns();
        pack();
        double per_call = group();
        finish();
        values[i] = issue ? per_call : (now_ns() - started) / 1e6;
    }
    printf(ANSWER "{\"ok\": [");
    for (int i = 0; i < rounds; i++) printf("%s%.6f", i > 0 ? ", " : "", values[i]);
    printf("], \"ms\": 0}\n");
    free(values);
}

static void join(const char *hex)
{
    unique_id id;
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        unsigned int byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) fail("the unique id is not 256 hexadecimal digits");
        id.bytes[i] = (char)byte;
    }
    config settings = { .size = sizeof settings, .magic = 0xcafebeef, .version = (unsigned int)nccl_version, .blocking = 0 };
    for (size_t i = 0; i < sizeof settings.rest / sizeof settings.rest[0]; i++) settings.rest[i] = INT32_MIN;
    /* netName and commName are pointers: NULL is undefined. */
    char *bytes = (char *)&settings;
    memset(bytes + 32, 0, 8);
    memset(bytes + 48, 0, 8);
    check(call.ncclCommInitRankConfig(&comm, world_size, id, rank, &settings), "ncclCommInitRankConfig");
    settle();
    printf(ANSWER "{\"ok\": null, \"ms\": 0}\n");
}

int main(int count, char **arguments)
{
    if (count != 7) {
        fputs("calls CUDART NCCL DEVICE RANK WORLD_SIZE CALLS_FILE\n", stderr);
        return 2;
    }
    device = atoi(arguments[3]);
    rank = atoi(arguments[4]);
    world_size = atoi(arguments[5]);
    open_libraries(arguments[1], arguments[2]);
    check(call.cudaRuntimeGetVersion(&cuda_version), "cudaRuntimeGetVersion");
    check(call.ncclGetVersion(&nccl_version), "ncclGetVersion");
    check(call.cudaSetDevice(device), "cudaSetDevice");
    check(call.cudaStreamCreateWithFlags(&stream, 1), "cudaStreamCreateWithFlags");
    check(call.cudaEventCreateWithFlags(&event, 2), "cudaEventCreateWithFlags");
    read_calls(arguments[6]);
    char line[1024];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *text = line[0] == '"' ? line + 1 : line;
        text[strcspn(text, "\"\n")] = '\0';
        if (strcmp(text, "id") == 0) {
            unique_id id;
            check(call.ncclGetUniqueId(&id), "ncclGetUniqueId");
            printf(ANSWER "{\"ok\": \"");
            for (size_t i = 0; i < sizeof id.bytes; i++) printf("%02x", (unsigned char)id.bytes[i]);
            printf("\", \"ms\": 0}\n");
        } else if (strncmp(text, "join ", 5) == 0) {
            join(text + 5);
        } else if (strncmp(text, "time ", 5) == 0) {
            answer_rounds(atoi(text + 5), 0);
        } else if (strncmp(text, "issue ", 6) == 0) {
            answer_rounds(atoi(text + 6), 1);
        } else {
            fail("%s is no command", text);
        }
        fflush(stdout);
    }
    return 0;
}
