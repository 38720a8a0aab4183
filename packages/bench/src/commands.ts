/* The commands that this package adds to the program of @peftjs/cli, which finds them in `peft` of package.json. */
export { addReportCommand, addRunCommand } from './commands/run.js';
export { addWorkerCommand } from './commands/worker.js';
