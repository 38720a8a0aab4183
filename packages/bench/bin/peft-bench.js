#!/usr/bin/env node
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';

// The program of @peftjs/cli, which finds the commands of this package, under this package's name.
process.env.PEFTJS_COMMAND = 'peft-bench';
process.env.PEFTJS_ORIGIN = import.meta.url; // this package and its samples are found from here
const cli = dirname(createRequire(import.meta.url).resolve('@peftjs/cli/package.json'));
await import(pathToFileURL(join(cli, 'launch.js')).href);
