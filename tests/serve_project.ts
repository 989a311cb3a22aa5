/**
 * The project over HTTP on this machine, as others import it.
 *
 * @module
 */

/** A server of the project's files. */
export interface ServedProject extends AsyncDisposable {
  /** `127.0.0.1:PORT`, for `--allow-import`. */
  readonly host: string;
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  /** A cache for Deno of its own, so that what is loaded from here is not kept; npm packages are those of the usual cache. */
  readonly denoDir: string;
}

/** Serves the project's folder until disposed. */
export async function serveProject(): Promise<ServedProject> {
  const root = new URL("../", import.meta.url);
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    try {
      const type = pathname.endsWith(".ts") ? "application/typescript" : "application/octet-stream";
      return new Response(await Deno.readFile(new URL(`.${pathname}`, root)), { headers: { "content-type": type } });
    } catch {
      return new Response("not found\n", { status: 404 });
    }
  });
  const { denoDir: usual } = JSON.parse(new TextDecoder().decode(
    (await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], stderr: "null" }).output()).stdout,
  )) as { denoDir: string };
  const denoDir = await Deno.makeTempDir({ prefix: "seqferry-deno-" });
  await Deno.mkdir(`${usual}/npm`, { recursive: true });
  await Deno.symlink(`${usual}/npm`, `${denoDir}/npm`);
  const host = `127.0.0.1:${server.addr.port}`;
  return {
    host,
    url: `http://${host}`,
    denoDir,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await Deno.remove(denoDir, { recursive: true });
    },
  };
}
