import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DataError } from '@peftjs/core/method';
import { readResults, resultPath, writeResult } from './files.js';
import type { DoneTrial } from './schema.js';

/** Two result files of the format before `format` was recorded. Their curves and stages were shortened. */
const before = fileURLToPath(new URL('../../test/fixtures/format-1', import.meta.url));
const ADALORA = 'adalora-uci_sentiment-r_8-s2-72d49aca3f1e';
const IN_STAGES = 'sora-uci_sentiment-any-s1-be14f357bb56';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'results-'));
  await cp(before, dir, { recursive: true });
});
afterEach(() => rm(dir, { recursive: true }));

const fileOf = async (id: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(resultPath(dir, id), 'utf8')) as Record<string, unknown>;

async function read(id: string): Promise<DoneTrial> {
  const found = (await readResults(dir)).find((result) => result.id === id);
  return found?.status === 'done' ? found : expect.fail(`no result ${id}`);
}

describe('a result file of format 1', () => {
  it('is converted to the current format, with numerics 0', async () => {
    const { versions, parameters, ...rest } = await fileOf(ADALORA);
    const { trainableMean, ...counts } = parameters as Record<string, number>;
    expect(await read(ADALORA)).toEqual({
      ...rest,
      format: 2,
      versions: { numerics: 0, ...(versions as object) },
      parameters: { ...counts, storedMean: trainableMean },
    });
  });

  it('keeps its losses, whose meaning is unchanged', async () => {
    const [first] = (await read(ADALORA)).history;
    expect(first?.loss).toBeCloseTo(0.818, 3); // cross-entropy of two classes
    expect(first?.objective).toBeCloseTo(10.309, 3); // plus the orthogonality penalty at the start
  });

  it('gets the mean of stored parameters from its curve if the file has another mean', async () => {
    const { history, parameters } = await read(IN_STAGES);
    expect(parameters.storedMean).toBe(history.reduce((sum, { stored }) => sum + stored, 0) / history.length);
  });

  it('gets the fields that the first files lack', async () => {
    const { arm: _, judgedOn: _rows, tuning: _rate, budget, parameters, ...rest } = await fileOf(ADALORA);
    const { matchedOn: _stored, ...asked } = budget as Record<string, unknown>;
    const { optimizerBytes, ...counts } = parameters as Record<string, unknown>;
    await writeFile(resultPath(dir, ADALORA), JSON.stringify({ ...rest, budget: asked, parameters: counts }));
    expect(await read(ADALORA)).toMatchObject({
      ...{ arm: 'adalora', judgedOn: 'dev', tuning: null, budget: { matchedOn: 'stored' } },
      parameters: { optimizerBytes },
    });
  });

  it('is in the current format once written again', async () => {
    const result = await read(ADALORA);
    await writeResult(dir, result);
    expect(await fileOf(ADALORA)).toEqual(result);
    expect(await read(ADALORA)).toEqual(result);
  });
});

it('a result file of a newer format is refused, but not as broken', async () => {
  await writeFile(resultPath(dir, ADALORA), JSON.stringify({ ...(await fileOf(ADALORA)), format: 3 }));
  const failure = await readResults(dir).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(DataError);
  expect((failure as DataError).message).toMatch(/\.json has format 3, but this version reads formats up to 2; update/);
});
