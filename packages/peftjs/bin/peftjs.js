#!/usr/bin/env node
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';

// The program of @peftjs/bench under this package's name.
process.env.PEFTJS_COMMAND = 'peftjs';
const bench = dirname(createRequire(import.meta.url).resolve('@peftjs/bench/package.json'));
await import(pathToFileURL(join(bench, 'bin/peft-bench.js')).href);
