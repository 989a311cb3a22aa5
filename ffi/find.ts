/**
 * Where libcudart and libnccl may be, in the order in which they are tried.
 *
 * An explicit path comes first and alone: who names a library wants that one or an error. Otherwise the loader's own search, CUDA homes,
 * Python's site-packages (where pip puts NVIDIA's wheels), conda, and the system's library folders. Nothing here asks for a permission:
 * what may not be read is listed as such and passed over.
 *
 * @module
 */

/** One of the two libraries, and what is to be known to find it. */
export interface LibrarySpec {
  /** Its name, e.g. `libnccl`. */
  readonly name: string;
  /** The environment variable that names a file, or a folder that has it. */
  readonly variable: string;
  /** File names, the preferred first. */
  readonly sonames: readonly string[];
  /** What to install or to set, as sentences. */
  readonly advice: string;
}

/** libcudart. */
export const libcudart: LibrarySpec = {
  name: "libcudart",
  variable: "SEQFERRY_CUDART",
  sonames: ["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"],
  advice:
    'Install the CUDA runtime (`pip install "nvidia-cuda-runtime>=13"`, `pip install nvidia-cuda-runtime-cu12`, ' +
    "or the CUDA toolkit: `apt install cuda-cudart-13-0` from NVIDIA's repository), or set SEQFERRY_CUDART to the library's path.",
};

/** libnccl. */
export const libnccl: LibrarySpec = {
  name: "libnccl",
  variable: "SEQFERRY_NCCL",
  sonames: ["libnccl.so.2"],
  advice:
    "Install NCCL (`pip install nvidia-nccl-cu13`, `pip install nvidia-nccl-cu12`, or `apt install libnccl2` from NVIDIA's " +
    "repository), or set SEQFERRY_NCCL to the library's path.",
};

/** The machine, as far as the search looks at it. Each answer may be a refusal, for want of a permission. */
export interface Surroundings {
  /** An environment variable; undefined where it is unset or empty. */
  env(variable: string): string | undefined | "not permitted";
  /** The names in a folder, sorted; undefined where there is no such folder. */
  list(folder: string): readonly string[] | undefined | "not permitted";
  /** What a path is; undefined where there is nothing. */
  kind(path: string): "file" | "folder" | undefined | "not permitted";
  /** Where a link leads, as it stands there; undefined where there is no link, or no permission. */
  link(path: string): string | undefined;
  /** The CPU, as in `Deno.build.arch`. */
  readonly arch: string;
}

/** A path to try. */
export interface Candidate {
  /** What to give to `Deno.dlopen`: an absolute path, or a bare file name for the loader to search. */
  readonly path: string;
  /** How the search came to it, e.g. `CUDA_HOME`. */
  readonly place: string;
}

/** What the search came to. */
export interface Search {
  /** The paths to try, in order, none twice. */
  readonly candidates: readonly Candidate[];
  /** The places that have no candidate, each with the reason. */
  readonly passedOver: readonly string[];
}

/** The machine itself, under the permissions of this process; never prompts. */
export const thisMachine: Surroundings = {
  env(variable) {
    if (!granted({ name: "env", variable })) return "not permitted";
    const value = Deno.env.get(variable);
    return value === "" ? undefined : value;
  },
  list(folder) {
    if (!granted({ name: "read", path: folder })) return "not permitted";
    try {
      return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
    } catch (error) {
      return error instanceof Deno.errors.NotCapable ? "not permitted" : undefined;
    }
  },
  kind(path) {
    if (!granted({ name: "read", path })) return "not permitted";
    try {
      return Deno.statSync(path).isDirectory ? "folder" : "file";
    } catch (error) {
      return error instanceof Deno.errors.NotCapable ? "not permitted" : undefined;
    }
  },
  link(path) {
    if (!granted({ name: "read", path })) return undefined;
    try {
      return Deno.readLinkSync(path);
    } catch {
      return undefined;
    }
  },
  arch: Deno.build.arch,
};

/** Whether a permission is there already; asking so never prompts. */
export function granted(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

/**
 * Every path at which a library may be, in order.
 *
 * @param library Which one.
 * @param path An explicit path, of the file or of its folder; it goes before the environment variable.
 * @param machine Where to look.
 */
export function search(library: LibrarySpec, path?: string, machine: Surroundings = thisMachine): Search {
  const variable = machine.env(library.variable);
  const named: [string, string] | undefined = path !== undefined
    ? [path, "given path"]
    : variable !== undefined && variable !== "not permitted"
    ? [variable, library.variable]
    : undefined;
  if (named !== undefined) {
    const [target, place] = named;
    const paths = target.endsWith("/") || machine.kind(target) === "folder"
      ? library.sonames.map((soname) => `${withoutSlash(target)}/${soname}`)
      : [target];
    return { candidates: paths.map((candidate) => ({ path: candidate, place })), passedOver: [] };
  }

  const candidates = new Map<string, Candidate>();
  const passedOver: string[] = variable === "not permitted"
    ? [`${library.variable}: not permitted (needs --allow-env=${library.variable})`]
    : [];
  for (const soname of library.sonames) candidates.set(soname, { path: soname, place: "the loader's own search" });
  for (const { folder, place } of folders(machine, passedOver)) {
    const names = machine.list(folder);
    if (names === "not permitted") passedOver.push(`${folder} (${place}): not permitted (needs --allow-read)`);
    else if (names === undefined) passedOver.push(`${folder} (${place}): no such folder`);
    else {
      const found = library.sonames.filter((soname) => names.includes(soname));
      if (found.length === 0) passedOver.push(`${folder} (${place}): no ${library.sonames.join(", ")}`);
      for (const soname of found) {
        const candidate = `${folder}/${soname}`;
        if (!candidates.has(candidate)) candidates.set(candidate, { path: candidate, place });
      }
    }
  }
  return { candidates: [...candidates.values()], passedOver };
}

/** A folder to look into, and how the search came to it. */
interface Folder {
  readonly folder: string;
  readonly place: string;
}

/** The folders beyond the loader's own, in order, none twice. */
function folders(machine: Surroundings, passedOver: string[]): Folder[] {
  const found = new Map<string, Folder>();
  const add = (folder: string, place: string) => {
    if (!found.has(folder)) found.set(folder, { folder, place });
  };
  const env = (variable: string): string | undefined => {
    const value = machine.env(variable);
    if (value === "not permitted") passedOver.push(`${variable}: not permitted (needs --allow-env=${variable})`);
    if (value === undefined) passedOver.push(`${variable}: not set`);
    return value === undefined || value === "not permitted" ? undefined : withoutSlash(value);
  };
  const children = (folder: string): readonly string[] => {
    const names = machine.list(folder);
    return names === undefined || names === "not permitted" ? [] : names;
  };

  for (const variable of ["CUDA_HOME", "CUDA_PATH"]) {
    const home = env(variable);
    if (home !== undefined) { for (const folder of cudaFolders(home, machine.arch)) add(folder, variable); }
  }
  for (const folder of cudaFolders("/usr/local/cuda", machine.arch)) add(folder, "CUDA toolkit");
  const toolkits = children("/usr/local").filter((name) => name.startsWith("cuda-"));
  for (const name of toolkits.sort(byVersion).reverse()) {
    for (const folder of cudaFolders(`/usr/local/${name}`, machine.arch)) add(folder, "CUDA toolkit");
  }

  const prefixes: [string, string][] = [];
  const sites = new Set<string>();
  const virtual = env("VIRTUAL_ENV");
  if (virtual !== undefined) prefixes.push([virtual, "VIRTUAL_ENV"]);
  const conda = env("CONDA_PREFIX");
  if (conda !== undefined) prefixes.push([conda, "CONDA_PREFIX"]);
  const home = env("HOME");
  if (home !== undefined) {
    prefixes.push([`${home}/.local`, "Python user site"]);
    for (const version of [...children(`${home}/.pyenv/versions`)].sort(byVersion).reverse()) {
      prefixes.push([`${home}/.pyenv/versions/${version}`, "pyenv"]);
    }
  }
  // A Python that is on the PATH has its packages in the lib folder beside its bin.
  for (const entry of (env("PATH") ?? "").split(":")) {
    if (entry.startsWith("/") && entry.endsWith("/bin") && entry !== "/bin") {
      prefixes.push([entry.slice(0, -4), "Python on PATH"]);
    }
    // It may be a link into a virtual environment, whose own link to a Python without those packages is not followed.
    const target = /^(\/.*)\/bin\/[^/]+$/.exec(machine.link(`${withoutSlash(entry)}/python3`) ?? "");
    if (target !== null) prefixes.push([target[1]!, "Python on PATH"]);
  }
  for (const prefix of ["/usr/local", "/usr", "/opt/conda", "/opt/venv"]) prefixes.push([prefix, "Python"]);

  // PYTHONPATH names site-packages itself, not the prefix above it.
  for (const entry of (env("PYTHONPATH") ?? "").split(":")) {
    if (entry !== "") addWheels(withoutSlash(entry), "PYTHONPATH");
  }
  for (const [prefix, place] of prefixes) {
    for (const lib of ["lib", "lib64"]) {
      const pythons = children(`${prefix}/${lib}`).filter((name) => /^python3(\.\d+)?$/.test(name));
      for (const python of pythons.sort(byVersion).reverse()) {
        for (const site of ["site-packages", "dist-packages"]) addWheels(`${prefix}/${lib}/${python}/${site}`, place);
      }
    }
  }
  function addWheels(site: string, place: string) {
    if (sites.has(site) || machine.kind(site) === undefined) return;
    sites.add(site);
    const wheels = machine.list(`${site}/nvidia`);
    if (wheels === undefined) passedOver.push(`${site}/nvidia (${place}): no such folder`);
    else if (wheels === "not permitted") {
      passedOver.push(`${site}/nvidia (${place}): not permitted (needs --allow-read)`);
    } else {
      for (const wheel of [...wheels].sort(byVersion).reverse()) {
        const folder = `${site}/nvidia/${wheel}/lib`;
        if (machine.kind(folder) === "folder") add(folder, `${place}, NVIDIA wheel`);
      }
    }
  }

  if (conda !== undefined) {
    add(`${conda}/lib`, "CONDA_PREFIX");
    for (const folder of cudaFolders(conda, machine.arch)) add(folder, "CONDA_PREFIX");
  }
  add("/opt/conda/lib", "conda");
  const triple = `${machine.arch}-linux-gnu`;
  for (const folder of [`/usr/lib/${triple}`, "/usr/lib64", "/usr/lib", "/usr/local/lib", "/usr/lib/wsl/lib"]) {
    add(folder, "system");
  }
  return [...found.values()];
}

/** The library folders of one CUDA home. */
function cudaFolders(home: string, arch: string): string[] {
  const target = arch === "aarch64" ? "sbsa-linux" : `${arch}-linux`;
  return [`${home}/lib64`, `${home}/targets/${target}/lib`, `${home}/lib`];
}

/** Orders `cuda-12.9` before `cuda-13.0`, and `python3.9` before `python3.12`. */
function byVersion(a: string, b: string): number {
  const numbers = (text: string) => (text.match(/\d+/g) ?? []).map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1);
    if (difference !== 0) return difference;
  }
  return a < b ? -1 : a > b ? 1 : 0;
}

function withoutSlash(path: string): string {
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}
