/* Device memory and events handed to another process. */
#include <unistd.h>

#include "harness.h"

enum { BYTES = 100000, OFFSET = 4000 };

static _Atomic int *flag(struct shared *shared, int index) { return &shared->flags[index]; }

static void await(struct shared *shared, int index) {
  for (int i = 0; *flag(shared, index) == 0; i++) {
    if (i > 20000) FAIL("the other process did not get to step %d", index);
    sleep_ms(1);
  }
}

/* Handles travel in the flags' neighbours: 64 bytes each. */
static void *place(struct shared *shared, int which) { return &shared->words[which * 8]; }

static void exports_and_opens(int rank, int count, struct shared *shared) {
  (void)count;
  OK(cudaSetDevice(0));
  if (rank == 0) {
    char *first = device_bytes(OFFSET, 9), *exported = device_bytes(BYTES, 1);
    OK(cudaIpcGetMemHandle(place(shared, 0), exported));
    CHECK_EQUAL(cudaIpcGetMemHandle(place(shared, 1), exported + 1), cudaErrorInvalidValue);
    *flag(shared, 0) = 1;
    await(shared, 1);
    CHECK(holds(exported, BYTES, 2));
    CHECK(holds(first, OFFSET, 9));
    await(shared, 2);
    OK(cudaFree(exported));
    OK(cudaFree(first));
  } else {
    await(shared, 0);
    cudaIpcMemHandle_t handle = *(cudaIpcMemHandle_t *)place(shared, 0);
    void *opened, *again;
    CHECK_EQUAL(cudaIpcOpenMemHandle(&opened, handle, 0), cudaErrorInvalidValue);
    OK(cudaIpcOpenMemHandle(&opened, handle, cudaIpcMemLazyEnablePeerAccess));
    OK(cudaIpcOpenMemHandle(&again, handle, cudaIpcMemLazyEnablePeerAccess));
    CHECK(again == opened);
    CHECK(holds(opened, BYTES, 1));
    char byte;
    CHECK_EQUAL(cudaMemcpy(&byte, (char *)opened + BYTES, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    CHECK_SENTENCE("exported");
    CHECK_EQUAL(cudaFree(opened), cudaErrorInvalidValue);
    fill(opened, BYTES, 2);
    *flag(shared, 1) = 1;
    OK(cudaIpcCloseMemHandle(opened));
    CHECK(holds(opened, BYTES, 2));
    OK(cudaIpcCloseMemHandle(opened));
    CHECK_EQUAL(cudaMemcpy(&byte, opened, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    CHECK_EQUAL(cudaIpcCloseMemHandle(opened), cudaErrorInvalidValue);
    *flag(shared, 2) = 1;
  }
}

TEST(memory_is_read_and_written_by_the_process_that_opened_it) { in_processes(2, exports_and_opens, -1); }

TEST(a_process_does_not_open_its_own_memory_or_bytes_that_are_no_handle) {
  OK(cudaSetDevice(0));
  void *memory = device_bytes(100, 0), *opened;
  cudaIpcMemHandle_t handle;
  OK(cudaIpcGetMemHandle(&handle, memory));
  CHECK_EQUAL(cudaIpcOpenMemHandle(&opened, handle, cudaIpcMemLazyEnablePeerAccess), cudaErrorDeviceUninitialized);
  memset(&handle, 7, sizeof handle);
  CHECK_EQUAL(cudaIpcOpenMemHandle(&opened, handle, cudaIpcMemLazyEnablePeerAccess), cudaErrorInvalidValue);
  OK(cudaFree(memory));
  CHECK_EQUAL(cudaIpcGetMemHandle(&handle, memory), cudaErrorInvalidValue);
}

static void sends_what_it_opened(int rank, int count, struct shared *shared) {
  struct one one;
  one_open(&one, rank, count, shared, false);
  char *mine = device_bytes(BYTES, rank);
  if (rank == 0) {
    OK(cudaIpcGetMemHandle(place(shared, 0), mine));
    *flag(shared, 0) = 1;
  }
  if (rank == 1) {
    await(shared, 0);
    void *opened;
    OK(cudaIpcOpenMemHandle(&opened, *(cudaIpcMemHandle_t *)place(shared, 0), cudaIpcMemLazyEnablePeerAccess));
    CHECK_EQUAL(ncclSend(opened, BYTES, ncclUint8, 2, one.comm, one.stream), ncclInProgress);
    OK(settle(one.comm));
    drain(one.stream);
    OK(cudaIpcCloseMemHandle(opened));
    *flag(shared, 1) = 1;
  }
  if (rank == 2) {
    CHECK_EQUAL(ncclRecv(mine, BYTES, ncclUint8, 1, one.comm, one.stream), ncclInProgress);
    OK(settle(one.comm));
    drain(one.stream);
    CHECK(holds(mine, BYTES, 0));
  }
  if (rank == 0) await(shared, 1);
  OK(cudaFree(mine));
  one_close(&one);
}

TEST(a_third_process_receives_what_lies_in_opened_memory) { in_processes(3, sends_what_it_opened, -1); }

static void waits_for_event(int rank, int count, struct shared *shared) {
  (void)count;
  OK(cudaSetDevice(0));
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, 1));
  cudaEvent_t event, gate;
  if (rank == 0) {
    CHECK_EQUAL(cudaEventCreateWithFlags(&event, cudaEventInterprocess), cudaErrorInvalidValue);
    OK(cudaEventCreateWithFlags(&event, cudaEventInterprocess | cudaEventDisableTiming));
    OK(cudaIpcGetEventHandle(place(shared, 0), event));
    *flag(shared, 0) = 1;
    await(shared, 1);
    OK(cudaIpcOpenEventHandle(&gate, *(cudaIpcEventHandle_t *)place(shared, 1)));
    /* The event comes after the other process's gate, which is not recorded as passed yet. */
    CHECK_EQUAL(cudaEventQuery(gate), cudaErrorNotReady);
    OK(cudaStreamWaitEvent(stream, gate, 0));
    OK(cudaEventRecord(event, stream));
    *flag(shared, 2) = 1;
    OK(cudaEventSynchronize(event));
    *flag(shared, 3) = 1;
    await(shared, 4);
    OK(cudaEventDestroy(gate));
    OK(cudaEventDestroy(event));
  } else {
    await(shared, 0);
    OK(cudaIpcOpenEventHandle(&event, *(cudaIpcEventHandle_t *)place(shared, 0)));
    OK(cudaEventQuery(event));
    OK(cudaEventCreateWithFlags(&gate, cudaEventInterprocess | cudaEventDisableTiming));
    OK(cudaIpcGetEventHandle(place(shared, 1), gate));
    /* Something that takes a while stands before the gate: an event of a receive that nobody has sent to. */
    ncclUniqueId id;
    OK(ncclGetUniqueId(&id));
    ncclComm_t comm[2];
    cudaStream_t other;
    OK(ncclGroupStart());
    OK(ncclCommInitRankConfig(&comm[0], 2, id, 0, nonblocking()));
    OK(cudaSetDevice(0 | 1 << 16));
    OK(ncclCommInitRankConfig(&comm[1], 2, id, 1, nonblocking()));
    ncclGroupEnd();
    OK(settle(comm[0]));
    OK(settle(comm[1]));
    OK(cudaStreamCreateWithFlags(&other, 1));
    char *to = device_bytes(8, 1);
    OK(cudaSetDevice(0));
    char *from = device_bytes(8, 0);
    ncclRecv(to, 8, ncclUint8, 0, comm[1], other);
    OK(settle(comm[1]));
    OK(cudaEventRecord(gate, other));
    *flag(shared, 1) = 1;
    await(shared, 2);
    CHECK_EQUAL(cudaEventQuery(event), cudaErrorNotReady);
    sleep_ms(30);
    CHECK_EQUAL(cudaEventQuery(event), cudaErrorNotReady);
    CHECK_EQUAL(*flag(shared, 3), 0);
    ncclSend(from, 8, ncclUint8, 1, comm[0], stream);
    OK(settle(comm[0]));
    OK(cudaStreamWaitEvent(stream, event, 0));
    drain(stream);
    drain(other);
    OK(cudaEventQuery(event));
    *flag(shared, 4) = 1;
    ncclCommAbort(comm[0]);
    ncclCommAbort(comm[1]);
  }
}

TEST(an_event_orders_the_work_of_two_processes) { in_processes(2, waits_for_event, -1); }
