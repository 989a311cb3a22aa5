/* Streams, events and copies on them. */
#include "../accounts.h"
#include "harness.h"

/* A stream that stands still until `open_gate`: it waits for a receive that its peer has not sent yet. */
struct gate {
  struct ranks ranks;
  void *byte[2];
  cudaEvent_t event; /* reached when the gate is open */
};

static void shut_gate(struct gate *gate) {
  ranks_open(&gate->ranks, 2, true);
  for (int rank = 0; rank < 2; rank++) {
    use_rank(rank);
    OK(cudaMalloc(&gate->byte[rank], 1));
  }
  OK(ncclRecv(gate->byte[1], 1, ncclUint8, 0, gate->ranks.comm[1], gate->ranks.stream[1]));
  OK(cudaEventCreateWithFlags(&gate->event, 0));
  OK(cudaEventRecord(gate->event, gate->ranks.stream[1]));
}

static void open_gate(struct gate *gate) {
  OK(ncclSend(gate->byte[0], 1, ncclUint8, 1, gate->ranks.comm[0], gate->ranks.stream[0]));
}

static void remove_gate(struct gate *gate) {
  ranks_drain(&gate->ranks);
  for (int rank = 0; rank < 2; rank++) OK(cudaFree(gate->byte[rank]));
  OK(cudaEventDestroy(gate->event));
  ranks_close(&gate->ranks);
}

TEST(work_on_a_stream_is_done_in_order) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  size_t bytes = 3 << 20;
  char *a, *b, *host = malloc(bytes), *back = malloc(bytes);
  OK(cudaMalloc((void **)&a, bytes));
  OK(cudaMalloc((void **)&b, bytes));
  memset(host, 42, bytes);
  OK(cudaHostRegister(host, bytes, 0));
  OK(cudaHostRegister(back, bytes, 0));
  OK(cudaMemsetAsync(a, 1, bytes, stream));
  OK(cudaMemcpyAsync(a + 1000, host, bytes - 1000, cudaMemcpyHostToDevice, stream));
  OK(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream));
  OK(cudaMemsetAsync(a, 9, bytes, stream));
  OK(cudaMemcpyAsync(back, b, bytes, cudaMemcpyDefault, stream));
  OK(cudaStreamSynchronize(stream));
  OK(cudaStreamQuery(stream));
  for (size_t i = 0; i < bytes; i += 500) CHECK_EQUAL(back[i], i < 1000 ? 1 : 42);
  CHECK_EQUAL(back[bytes - 1], 42);
  OK(cudaHostUnregister(host));
  OK(cudaHostUnregister(back));
  OK(cudaFree(a));
  OK(cudaFree(b));
  OK(cudaStreamDestroy(stream));
  CHECK_EQUAL(cudaStreamQuery(stream), cudaErrorInvalidResourceHandle);
  CHECK_EQUAL(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  free(host);
  free(back);
}

TEST(a_large_copy_is_done_in_bounded_steps) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  size_t bytes = 16 << 20;
  void *a, *b;
  OK(cudaMalloc(&a, bytes));
  OK(cudaMalloc(&b, bytes));
  OK(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream));
  CHECK_EQUAL(cudaStreamQuery(stream), cudaErrorNotReady);
  CHECK_EQUAL(cudaGetLastError(), cudaErrorNotReady);
  drain(stream);
  OK(cudaFree(a));
  OK(cudaFree(b));
  OK(cudaStreamDestroy(stream));
}

TEST(an_event_completes_when_its_stream_gets_there) {
  struct gate gate;
  cudaEvent_t fresh, timed, before;
  shut_gate(&gate);
  use_rank(1);
  OK(cudaEventCreateWithFlags(&fresh, 2));
  OK(cudaEventQuery(fresh));
  OK(cudaEventCreateWithFlags(&timed, 0));
  OK(cudaEventCreateWithFlags(&before, 0));
  use_rank(0);
  OK(cudaEventRecord(before, gate.ranks.stream[0]));
  OK(cudaEventQuery(before));
  CHECK_EQUAL(cudaEventQuery(gate.event), cudaErrorNotReady);
  OK(cudaEventRecord(timed, gate.ranks.stream[1]));
  sleep_ms(20);
  CHECK_EQUAL(cudaEventQuery(timed), cudaErrorNotReady);
  float milliseconds = -1;
  CHECK_EQUAL(cudaEventElapsedTime(&milliseconds, before, timed), cudaErrorNotReady);
  open_gate(&gate);
  OK(cudaEventSynchronize(timed));
  OK(cudaEventQuery(gate.event));
  OK(cudaEventElapsedTime(&milliseconds, before, timed));
  CHECK(milliseconds >= 19 && milliseconds < 20000);
  CHECK_EQUAL(cudaEventElapsedTime(&milliseconds, fresh, timed), cudaErrorInvalidResourceHandle);
  OK(cudaEventDestroy(fresh));
  OK(cudaEventDestroy(timed));
  OK(cudaEventDestroy(before));
  CHECK_EQUAL(cudaEventQuery(timed), cudaErrorInvalidResourceHandle);
  remove_gate(&gate);
  CHECK_EQUAL(account(ACCOUNT_LIVE_EVENTS), 0);
}

TEST(a_stream_waits_for_an_event_of_another) {
  struct gate gate;
  shut_gate(&gate);
  use_rank(2);
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  char *a, host = 0;
  OK(cudaMalloc((void **)&a, 1));
  OK(cudaMemset(a, 1, 1));
  OK(cudaStreamWaitEvent(stream, gate.event, 0));
  OK(cudaMemsetAsync(a, 2, 1, stream));
  OK(cudaMemcpy(&host, a, 1, cudaMemcpyDeviceToHost));
  CHECK_EQUAL(host, 1);
  CHECK(!idle_within(stream, 20));
  open_gate(&gate);
  drain(stream);
  OK(cudaMemcpy(&host, a, 1, cudaMemcpyDeviceToHost));
  CHECK_EQUAL(host, 2);
  OK(cudaFree(a));
  OK(cudaStreamDestroy(stream));
  remove_gate(&gate);
}

TEST(pageable_bytes_are_taken_before_the_call_returns) {
  struct gate gate;
  shut_gate(&gate);
  use_rank(1);
  char host[64], back[64] = {0}, *a;
  memset(host, 3, sizeof host);
  OK(cudaMallocAsync((void **)&a, 64, gate.ranks.stream[1]));
  OK(cudaMemcpyAsync(a, host, 64, cudaMemcpyHostToDevice, gate.ranks.stream[1]));
  memset(host, 4, sizeof host);
  open_gate(&gate);
  drain(gate.ranks.stream[1]);
  OK(cudaMemcpy(back, a, 64, cudaMemcpyDeviceToHost));
  CHECK_EQUAL(back[63], 3);
  OK(cudaFree(a));
  remove_gate(&gate);
}

TEST(pageable_bytes_are_there_when_the_call_returns) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  size_t bytes = 4 << 20;
  char *a, *host = malloc(bytes);
  OK(cudaMalloc((void **)&a, bytes));
  OK(cudaMemsetAsync(a, 8, bytes, stream));
  OK(cudaMemcpyAsync(host, a, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK_EQUAL(host[0], 8);
  CHECK_EQUAL(host[bytes - 1], 8);
  OK(cudaFree(a));
  OK(cudaStreamDestroy(stream));
  free(host);
}

TEST(a_destroyed_stream_finishes_its_work) {
  struct gate gate;
  shut_gate(&gate);
  use_rank(2);
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  char *a, host = 0;
  OK(cudaMalloc((void **)&a, 1));
  OK(cudaMemset(a, 1, 1));
  OK(cudaStreamWaitEvent(stream, gate.event, 0));
  OK(cudaMemsetAsync(a, 2, 1, stream));
  OK(cudaStreamDestroy(stream));
  open_gate(&gate);
  remove_gate(&gate);
  for (int i = 0; i < 2000 && host != 2; i++) {
    OK(cudaMemcpy(&host, a, 1, cudaMemcpyDeviceToHost));
    sleep_ms(1);
  }
  CHECK_EQUAL(host, 2);
  OK(cudaFree(a));
}

TEST(a_batch_of_copies_is_checked_and_done) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  char *a, *b, host[300];
  OK(cudaMalloc((void **)&a, 300));
  OK(cudaMalloc((void **)&b, 300));
  OK(cudaMemset(a, 6, 300));
  OK(cudaMemset(b, 0, 300));
  void *to[3] = {b, b + 100, b + 200};
  const void *from[3] = {a, a + 100, a + 200};
  size_t sizes[3] = {100, 50, 100}, starts[1] = {0};
  struct cudaMemcpyAttributes attributes = {.srcAccessOrder = 1};
  CHECK_EQUAL(sizeof attributes, 24);
  OK(cudaMemcpyBatchAsync(to, from, sizes, 3, &attributes, starts, 1, stream));
  OK(cudaStreamSynchronize(stream));
  OK(cudaMemcpy(host, b, 300, cudaMemcpyDeviceToHost));
  CHECK(host[99] == 6 && host[149] == 6 && host[150] == 0 && host[299] == 6);
  CHECK_EQUAL(cudaMemcpyBatchAsync(to, from, sizes, 3, &attributes, starts, 1, NULL), cudaErrorInvalidValue);
  sizes[2] = 101;
  OK(cudaMemset(b, 0, 300));
  CHECK_EQUAL(cudaMemcpyBatchAsync(to, from, sizes, 3, &attributes, starts, 1, stream), cudaErrorInvalidValue);
  OK(cudaMemcpy(host, b, 300, cudaMemcpyDeviceToHost));
  CHECK_EQUAL(host[0], 0);
  OK(cudaFree(a));
  OK(cudaFree(b));
  OK(cudaStreamDestroy(stream));
}

TEST(devices_tell_their_number_attributes_and_place) {
  setting("SEQFERRY_CPU_DEVICES", "3");
  int value = 0;
  char bus[13];
  OK(cudaGetDeviceCount(&value));
  CHECK_EQUAL(value, 3);
  OK(cudaSetDevice(2 | 5 << 16));
  OK(cudaGetDevice(&value));
  CHECK_EQUAL(value, 2 | 5 << 16);
  OK(cudaDeviceGetPCIBusId(bus, sizeof bus, 2));
  CHECK(strcmp(bus, "0000:03:00.0") == 0);
  OK(cudaDeviceGetAttribute(&value, 115, 0));
  CHECK_EQUAL(value, 1);
  CHECK_EQUAL(cudaDeviceGetAttribute(&value, 115, 3), cudaErrorInvalidDevice);
  OK(cudaRuntimeGetVersion(&value));
  CHECK_EQUAL(value, 13000);
  OK(ncclGetVersion(&value));
  CHECK_EQUAL(value, 23007);
  CHECK(strcmp(cudaGetErrorName(600), "cudaErrorNotReady") == 0);
  uint64_t count = 0;
  OK(seqferryCpuCallCount("cudaSetDevice", &count));
  CHECK_EQUAL(count, 1);
  CHECK_EQUAL(seqferryCpuCallCount("cudaNoSuchThing", &count), 1);
}
