/* The child process of `own-process.ts`: takes a request as JSON and prints the result as JSON. */
import { writeRandomModel } from './checkpoint.js';
import { measureCase } from './measure.js';
import { models } from './models.js';
import type { Request } from './own-process.js';

const request = JSON.parse(process.argv[2] ?? '') as Request;
if ('write' in request)
  await writeRandomModel(request.folder, models[request.write].config, models[request.write].task);
else process.stdout.write(JSON.stringify(await measureCase(request.measure, request.model, request.peak)));
