/*
 * npx tsx --conditions @peftjs/source tools/compare-peft/prepare.ts --model DIR --data DIR --work DIR [--tasks rte,mrpc]
 *
 * Writes the inputs of both sides of the comparison: each task as tokens, the batches of every seed, and each seed's
 * initial adapter and head in PEFT's format.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { attach, diskStorage, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import {
  embeddedTasks,
  encodeRows,
  glueTask,
  type DataSet,
  type EncodedData,
  type Task,
  type LabelKind,
} from '@peftjs/tasks';
import { dataOf, planOf, runFolder, taskFile, type PreparedRow, type PreparedTask } from './prepared.js';
import { settings, tableTasks, taskSettings } from './settings.js';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string', default: '' },
    work: { type: 'string' },
    tasks: { type: 'string', default: tableTasks.join() },
  },
});
const { model: folder, work } = flags;
if (folder === undefined || work === undefined) throw new RangeError('expected --model DIR --data DIR --work DIR');
for (const name of flags.tasks.split(',')) await prepare(name, folder, work);

async function prepare(name: string, modelFolder: string, to: string): Promise<void> {
  const source = await readTask(name);
  const model = await fromPretrained(modelFolder, { numLabels: source.classes.length || 1 });
  const { maxTokens } = settings;
  const encode = (set: DataSet<LabelKind>): EncodedData<LabelKind> => encodeRows(set, model.tokenizer, { maxTokens });
  const all = encode(source.train);
  const train = { ...all, rows: all.rows.slice(0, taskSettings(name).firstRows) };
  const dev = encode(source.dev);
  const task: PreparedTask = {
    kind: source.kind,
    classes: source.classes,
    train: preparedRows(train),
    dev: preparedRows(dev),
  };
  await mkdir(dirname(taskFile(to, name)), { recursive: true });
  await writeFile(taskFile(to, name), JSON.stringify(task));
  for (const seed of settings.seeds) await prepareRun(name, task, { model, seed, folder: runFolder(to, name, seed) });
  process.stderr.write(`${name}: ${train.rows.length} + ${dev.rows.length} rows\n`);
}

async function prepareRun(
  name: string,
  task: PreparedTask,
  { model, seed, folder: to }: { model: PretrainedModel; seed: number; folder: string },
): Promise<void> {
  const peft = attach(model, lora({ ...settings.lora }), { seed });
  await savePretrained(peft, `${to}/adapter`);
  await writeFile(`${to}/batches.json`, JSON.stringify(planOf(name, dataOf(name, task, seed))));
}

/** Reads a GLUE task from the data folder, or one from an npm package. */
function readTask(name: string): Promise<Task<LabelKind>> {
  const embedded = embeddedTasks.get(name);
  if (!embedded) return glueTask(name, flags.data, diskStorage());
  const require = createRequire(import.meta.url);
  return embedded.load(async (packageName, file) => {
    const root = dirname(require.resolve(`${packageName}/package.json`));
    return new Uint8Array(await readFile(join(root, file)));
  });
}

function preparedRows({ rows }: EncodedData<LabelKind>): PreparedRow[] {
  return rows.map(({ ids, typeIds = ids.map(() => 0), label }) => ({ ids: [...ids], typeIds: [...typeIds], label }));
}
