import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/* Starts the program, for the commands of packages: peftjs and peft-bench. */

// Only the repository has tsup.config.ts here. There we run the sources, so a fresh clone works without a build; its
// end-to-end tests run the build, which starts three times as fast.
const inRepository = existsSync(new URL('./tsup.config.ts', import.meta.url));

if (inRepository && !process.env.PEFTJS_BUILT) runSources();
else await import('./dist/cli.js');

/** Starts Node again with flags that run TypeScript from the sources; worker processes inherit these flags. */
function runSources() {
  const flags = ['--conditions=@peftjs/source', `--import=${import.meta.resolve('tsx')}`];
  const cli = fileURLToPath(new URL('./src/cli.ts', import.meta.url));
  // Before the child starts: a signal in between would otherwise end only this process.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => passOn(signal, child));
  const child = spawn(process.execPath, [...process.execArgv, ...flags, cli, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'], // the channel closes when this process ends, for whatever reason
  });
  child.on('error', (error) => {
    throw error;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exitCode = code;
    else dieOf(signal);
  });
}

/** A terminal has already sent Ctrl-C to the child, which would read a second one as "end at once". */
function passOn(signal, child) {
  if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
}

/** Ends this process by the signal that ended the child. */
function dieOf(signal) {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
