import { main } from './cli/main.js';
import { commandName } from './registry/command-name.js';

/** Exit code of a process that writes to a closed pipe, as if SIGPIPE had ended it. */
const UNREAD = 141;

for (const stream of [process.stdout, process.stderr]) stream.on('error', endOf);
// The launcher, which would pass on Ctrl-C, is gone, perhaps since before this line.
if (process.send && !process.connected) process.exit();
process.on('disconnect', () => process.exit());
process.channel?.unref();
await main(process.argv);

/** Write errors are reported on stderr; a closed pipe is no error. */
function endOf(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(UNREAD);
  process.stderr.write(`${commandName}: cannot write to stdout: ${error.message}\n`);
  process.exit(1);
}
