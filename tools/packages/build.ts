/**
 * Builds the packages, or some of them:
 *
 *   npm run build [-- --projects=@peftjs/core,@peftjs/sora]
 *
 * Nx builds their JavaScript, as far as it has changed, and passes on what other options it is given.
 */
import { spawnSync } from 'node:child_process';
import { writeDeclarations } from './declarations.js';
import { chosenFolders } from './folders.js';

const args = process.argv.slice(2);
const { status } = spawnSync('nx', ['run-many', '-t', 'build', ...args], { stdio: 'inherit' });
if (status === 0) writeDeclarations(chosenFolders(args));
else process.exitCode = 1;
