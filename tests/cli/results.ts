import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The result files of a run's folder, by name; the type parameter says what the caller reads. */
export async function resultsIn<Result>(out: string): Promise<Result[]> {
  const files = (await readdir(join(out, 'results'))).sort();
  return Promise.all(
    files.map(async (file) => JSON.parse(await readFile(join(out, 'results', file), 'utf8')) as Result),
  );
}

/** A result without the fields in which two runs of one plan may differ. */
export function numbersOf(result: object): object {
  const { time: _, memory: _peak, startedAt: _from, finishedAt: _to, ...rest } = result as Record<string, unknown>;
  return rest;
}
