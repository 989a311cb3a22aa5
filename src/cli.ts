/**
 * The commands that a person types: `deno run -A src/cli.ts COMMAND [flags]`.
 *
 * Exit codes: 0 done and verified; 1 a transfer failed or did not verify; 2 bad input or usage; 3 something this machine lacks; 128 and the
 * signal's number when a signal ended it.
 *
 * @module
 */

import { type Command, helpOf, parseFlags } from "./commands/args.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { BAD_INPUT, DONE, exitCodeOf, sayError } from "./commands/exit_code.ts";
import { InputError } from "./commands/input_error.ts";
import { planCommand } from "./commands/plan.ts";
import { print } from "./commands/print.ts";
import { standardError } from "./commands/progress.ts";
import { runCommand } from "./commands/run.ts";
import { VERSION } from "./commands/version.ts";
import { show } from "./show.ts";

const COMMANDS: readonly Command[] = [runCommand, planCommand, doctorCommand];

const HELP =
  `seqferry ${VERSION} moves batches of reinforcement-learning sequences between workers of different parallel layouts.

${
    COMMANDS.map(({ name, summary }) => `  ${name.padEnd(9)}${summary}\n`).join("")
  }  help     This text; "seqferry COMMAND --help" tells a command's flags.
  version  The release.
`;

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  try {
    switch (name) {
      case undefined:
        standardError.write(HELP);
        return BAD_INPUT;
      case "help":
      case "--help":
      case "-h":
        print(helpFor(rest[0]));
        return DONE;
      case "version":
      case "--version":
        print(`seqferry ${VERSION}\n`);
        return DONE;
    }
    const command = commandNamed(name);
    const flags = parseFlags(command, rest);
    if (flags.has("help")) {
      print(helpOf(command));
      return DONE;
    }
    return await command.run(flags);
  } catch (error) {
    standardError.write(`seqferry: ${sayError(error)}\n`);
    return exitCodeOf(error);
  }
}

/** The help on a command; on all of them where none is named, and for `help` and `version`, which are told of there. */
function helpFor(name: string | undefined): string {
  return name === undefined || name === "help" || name === "version" ? HELP : helpOf(commandNamed(name));
}

function commandNamed(name: string): Command {
  const command = COMMANDS.find((one) => one.name === name);
  if (command !== undefined) return command;
  const names = [...COMMANDS.map((one) => one.name), "help", "version"];
  throw new InputError("", `there is no command ${show(name)}; there are ${names.join(", ")}`);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
