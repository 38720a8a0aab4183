import { main } from './cli/main.js';
import { commandName } from './registry/command-name.js';

/** The exit code after writing to a closed pipe, as if SIGPIPE had ended the process. */
const UNREAD = 141;

for (const stream of [process.stdout, process.stderr]) stream.on('error', endOf);
// The launcher passes on Ctrl-C. If it is gone, perhaps already by now, this process ends too.
if (process.send && !process.connected) process.exit();
process.on('disconnect', () => process.exit());
process.channel?.unref();
await main(process.argv);

/** Reports write errors on stderr; a closed pipe is not an error. */
function endOf(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(UNREAD);
  process.stderr.write(`${commandName}: cannot write to stdout: ${error.message}\n`);
  process.exit(1);
}
