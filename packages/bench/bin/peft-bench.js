#!/usr/bin/env node
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

// Only the repository has the build's configuration beside the sources. There the sources themselves run, so that no
// build comes between a clone and its first command.
const inRepository = existsSync(new URL('../tsup.config.ts', import.meta.url));

if (inRepository) runSources();
else await import('../dist/cli.js');

/** Node once more, reading TypeScript and resolving the packages to their sources; the worker processes inherit that. */
function runSources() {
  const flags = ['--conditions=@peftjs/source', `--import=${import.meta.resolve('tsx')}`];
  const cli = fileURLToPath(new URL('../src/cli.ts', import.meta.url));
  // Before there is a child: a signal in between would end this process alone.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => passOn(signal, child));
  const child = spawn(process.execPath, [...process.execArgv, ...flags, cli, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'], // the channel ends with this process, however that ends
  });
  child.on('error', (error) => {
    throw error;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exitCode = code;
    else dieOf(signal);
  });
}

/** A terminal has already sent Ctrl-C to the child: it would take a second one for impatience. */
function passOn(signal, child) {
  if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
}

function dieOf(signal) {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
