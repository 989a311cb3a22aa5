import { assertEquals, assertThrows } from "@std/assert";
import { SeqferryError } from "../../src/errors.ts";
import { LAUNCH_VARIABLES, readLaunchEnvironment } from "../../src/service/launch_environment.ts";

const read = (variables: Record<string, string>) => readLaunchEnvironment((name) => variables[name]);

Deno.test("readLaunchEnvironment() reads torchrun, Open MPI, Slurm and Kubernetes", () => {
  const place = { rank: 5, localRank: 1 };
  assertEquals(read({ RANK: "5", LOCAL_RANK: "1" }), place);
  assertEquals(read({ OMPI_COMM_WORLD_RANK: "5", OMPI_COMM_WORLD_LOCAL_RANK: "1" }), place);
  assertEquals(read({ SLURM_PROCID: "5", SLURM_LOCALID: "1" }), place);
  assertEquals(read({ JOB_COMPLETION_INDEX: "5" }), { rank: 5 });
});

Deno.test("readLaunchEnvironment() takes one launcher's word for all, the first that names a rank", () => {
  assertEquals(read({ RANK: "0", SLURM_PROCID: "7", SLURM_LOCALID: "3" }), { rank: 0 });
});

Deno.test("readLaunchEnvironment() knows nothing where no launcher speaks, and counts empty as unset", () => {
  assertEquals(read({}), {});
  assertEquals(read({ RANK: "", LOCAL_RANK: "2" }), { localRank: 2 });
});

Deno.test("readLaunchEnvironment() names the variable that is no integer", () => {
  assertThrows(() => read({ RANK: "one" }), SeqferryError, 'RANK: it is an integer from 0 up, not "one"');
  assertThrows(() => read({ RANK: "1", LOCAL_RANK: "-1" }), SeqferryError, "LOCAL_RANK");
});

Deno.test("readLaunchEnvironment() passes over the number of ranks, which the coordinator tells", () => {
  assertEquals(read({ RANK: "1", WORLD_SIZE: "many" }), { rank: 1 });
  assertEquals(read({ SLURM_PROCID: "1", SLURM_NTASKS: "4" }), { rank: 1 });
});

Deno.test("readLaunchEnvironment() asks for no variable beyond LAUNCH_VARIABLES", () => {
  const asked = new Set<string>();
  readLaunchEnvironment((name) => void asked.add(name));
  assertEquals([...asked].filter((name) => !LAUNCH_VARIABLES.includes(name)), []);
});
