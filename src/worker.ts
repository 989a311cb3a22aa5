// deno-lint-ignore-file no-console -- an entry point: it tells a person how it ended
/**
 * One rank as a service: `deno run src/worker.ts --coordinator URL --rank R`, also by URL.
 *
 * Its import graph has relative, `node:` and full `npm:` specifiers only, so that it runs from anywhere without an import map.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { messageOf } from "./commands/input_error.ts";
import { isLacking } from "./commands/lacking.ts";
import { requireToken } from "./service/auth.ts";
import { readLaunchEnvironment } from "./service/launch_environment.ts";
import { within } from "./wait.ts";
import { WorkerService } from "./service/worker_service.ts";

const HELP = `One rank of seqferry as a service: HTTP and WebSocket.

deno run src/worker.ts --coordinator URL [flags]

  --coordinator URL    where its coordinator serves, e.g. http://127.0.0.1:4000
  --rank R             this worker's rank, from 0; RANK, SLURM_PROCID and the like unless given
  --local-rank R       its number on this machine, which chooses the device; LOCAL_RANK and the like, or the rank, unless given
  --backend B          cpu, cuda or auto (the default)
  --host ADDRESS       the address to serve on; 127.0.0.1 unless given; any other than this machine's own needs a token
  --port P             the port to serve on; one that is free unless given
  --no-rehearse        makes its first transfers without a rehearsal, which takes half a second or more: for a worker that makes only a few
  --token-file FILE    a file that holds the token, at least 16 characters; SEQFERRY_TOKEN unless given
  --help               this text

It ends when its coordinator says so (exit code 0), when it gets SIGTERM or SIGINT with nothing under way (0), and when the connection to its
coordinator closes or has been silent for 30 seconds, or something under way had to be given up (1). Wrong flags: 2. A library, compiler or device that is missing: 3.
`;

/** How long the libraries may take to open when a signal has come meanwhile, in milliseconds. */
const STARTING_GRACE_MS = 2_000;

/** What a person got wrong. */
class UsageError extends Error {}

async function main(args: readonly string[]): Promise<number> {
  let options;
  try {
    options = await readOptions(args);
  } catch (error) {
    console.error(`worker: ${messageOf(error)}`);
    return 2;
  }
  if (options === "help") {
    console.log(HELP.trimEnd());
    return 0;
  }
  // From the first moment on: a signal in the middle of opening the libraries ends the worker once they are open, or after a grace.
  const { promise: signalled, resolve: onSignal } = Promise.withResolvers<string>();
  const listeners = (["SIGTERM", "SIGINT"] as const).map((signal) => ({ signal, listener: () => onSignal(signal) }));
  for (const { signal, listener } of listeners) Deno.addSignalListener(signal, listener);
  try {
    const starting = WorkerService.start(options);
    // What takes long there, building a library or waking a device, is not to be waited for by whoever ends this process.
    const late = signalled.then((signal) => within(STARTING_GRACE_MS, starting).then(() => signal));
    const started = await Promise.race([starting, late]);
    if (typeof started === "string") {
      console.error(`worker of rank ${options.rank}: it got ${started} before its libraries were open`);
      return 1;
    }
    const service = started;
    void signalled.then((signal) => service.close(`it got ${signal}`, true));
    const { orderly, reason } = await service.ended;
    if (!orderly) console.error(`worker of rank ${options.rank}: ${reason}`);
    return orderly ? 0 : 1;
  } catch (error) {
    console.error(`worker of rank ${options.rank}: ${messageOf(error)}`);
    return isLacking(error) ? 3 : 1;
  } finally {
    for (const { signal, listener } of listeners) Deno.removeSignalListener(signal, listener);
  }
}

async function readOptions(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    allowNegative: true,
    options: {
      coordinator: { type: "string" },
      rank: { type: "string" },
      "local-rank": { type: "string" },
      backend: { type: "string", default: "auto" },
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "0" },
      "token-file": { type: "string" },
      rehearse: { type: "boolean", default: true },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help" as const;
  const launched = values.rank !== undefined && values["local-rank"] !== undefined
    ? {}
    : readLaunchEnvironment(environment);
  const rank = integer("--rank", values.rank) ?? launched.rank;
  if (rank === undefined) {
    throw new UsageError("--rank: it is missing, and no launcher's variable such as RANK tells it");
  }
  if (values.coordinator === undefined) {
    throw new UsageError("--coordinator: it is missing; give the coordinator's URL");
  }
  const coordinator = URL.parse(values.coordinator);
  if (coordinator === null || !/^https?:$/.test(coordinator.protocol)) {
    throw new UsageError(`--coordinator: it is a URL such as http://127.0.0.1:4000, not ${values.coordinator}`);
  }
  const { backend } = values;
  if (backend !== "auto" && backend !== "cpu" && backend !== "cuda") {
    throw new UsageError(`--backend: it is cpu, cuda or auto, not ${backend}`);
  }
  const port = integer("--port", values.port) ?? 0;
  if (port > 65535) throw new UsageError(`--port: it is an integer from 0 to 65535, not ${port}`);
  const localRank = integer("--local-rank", values["local-rank"]) ?? launched.localRank;
  return {
    coordinator,
    rank,
    backend,
    hostname: values.host,
    port,
    rehearse: values.rehearse,
    token: await readToken(values["token-file"], values.host),
    ...(localRank === undefined ? {} : { localRank }),
  } as const;
}

/** The token, checked; null for none. */
async function readToken(file: string | undefined, hostname: string): Promise<string | null> {
  const token = file === undefined ? environment("SEQFERRY_TOKEN") ?? null : await readTokenFile(file);
  try {
    requireToken(token, hostname);
    return token;
  } catch (error) {
    const place = token === null ? "--host" : file === undefined ? "SEQFERRY_TOKEN" : `--token-file: ${file}`;
    throw new UsageError(`${place}: ${messageOf(error)}`);
  }
}

async function readTokenFile(file: string): Promise<string> {
  try {
    return (await Deno.readTextFile(file)).trim();
  } catch (error) {
    throw new UsageError(`--token-file: ${file} cannot be read: ${messageOf(error)}`);
  }
}

function integer(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw new UsageError(`${name}: it is an integer from 0 up, not ${text}`);
  return value;
}

/** A variable; undefined where it is unset, empty, or not permitted: asking for a permission would stop at a prompt. */
function environment(name: string): string | undefined {
  if (Deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  const value = Deno.env.get(name);
  return value === "" ? undefined : value;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
