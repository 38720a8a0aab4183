import { commandName } from './registry/command-name.js';
import { remedyFor } from './results/remedies.js';

/** The exit code after writing to a closed pipe, as if SIGPIPE had ended the process. */
const UNREAD = 141;
/** The exit code for wrong usage or input. */
const BAD_INPUT = 2;

for (const stream of [process.stdout, process.stderr]) stream.on('error', endOf);
// The launcher passes on Ctrl-C. If it is gone, perhaps already by now, this process ends too.
if (process.send && !process.connected) process.exit();
process.on('disconnect', () => process.exit());
process.channel?.unref();
const { main } = await import('./commands/main.js').catch(endWithRemedy); // loads hundreds of files
await main(process.argv);

/** Reports write errors on stderr; a closed pipe is not an error. */
function endOf(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(UNREAD);
  process.stderr.write(`${commandName}: cannot write to stdout: ${error.message}\n`);
  process.exit(1);
}

/** Ends in one line if the program cannot be loaded, e.g. since too few files may be open. */
function endWithRemedy(error: unknown): never {
  const remedy = remedyFor(error);
  if (!remedy) throw error;
  process.stderr.write(`${commandName}: ${(error as Error).message}. ${remedy}\n`);
  process.exit(BAD_INPUT);
}
