import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { attach, diskStorage, savePretrained, type PeftModel } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import {
  embeddedTasks,
  encodeRows,
  glueTask,
  sliceRows,
  splitSelection,
  type DataSet,
  type LabelKind,
  type SelectionSplit,
  type Task,
} from '@peftjs/tasks';
import { dataOf, planOf, readPrepared, runFolder, taskFile, type PreparedRow, type PreparedTask } from './prepared.js';
import { taskSettings, type Settings } from './settings.js';

/** The folders of the model, the data and the prepared files. */
interface Folders {
  readonly model: string;
  readonly data: string;
  readonly work: string;
}

/**
 * Writes the inputs of both sides, unless they exist: each task as tokens, the batches of every seed, and each seed's
 * initial adapter and head in PEFT's format.
 */
export async function prepare(settings: Settings, task: string, seeds: readonly number[], at: Folders): Promise<void> {
  if (!existsSync(taskFile(at.work, task))) await prepareTask(settings, task, at);
  const prepared = await readPrepared<PreparedTask>(taskFile(at.work, task));
  const missing = seeds.filter((seed) => !existsSync(`${runFolder(at.work, task, seed)}/batches.json`));
  if (missing.length === 0) return;
  const model = await modelOf(at.model, prepared);
  for (const seed of missing) {
    const to = runFolder(at.work, task, seed);
    await savePretrained(untrained(settings, model, seed), `${to}/adapter`);
    await writeFile(
      `${to}/batches.json`,
      JSON.stringify(planOf(settings, task, dataOf(settings, task, prepared, seed))),
    );
  }
}

/** The model with a head for a task's classes. */
export function modelOf(folder: string, { classes }: Pick<PreparedTask, 'classes'>): Promise<PretrainedModel> {
  return fromPretrained(folder, { numLabels: classes.length || 1 });
}

/** The model with the adapter and the head from which both sides start. */
export function untrained({ lora: options, trainHead }: Settings, model: PretrainedModel, seed: number): PeftModel {
  return attach(model, lora({ ...options }), { seed, trainHead });
}

async function prepareTask(settings: Settings, name: string, { model: folder, data, work }: Folders): Promise<void> {
  const source = await readTask(name, data);
  const { kind, classes, dev } = source;
  const { tokenizer } = await modelOf(folder, source);
  const { maxTokens } = settings;
  const tokens = (set: DataSet<LabelKind>): PreparedRow[] =>
    encodeRows(set, tokenizer, { maxTokens }).rows.map(({ ids, typeIds = ids.map(() => 0), label }) => {
      return { ids: [...ids], typeIds: [...typeIds], label };
    });
  const { train, selection } = await splitRows(settings, source.train);
  const task: PreparedTask = {
    ...{ kind, classes },
    train: tokens(train).slice(0, taskSettings(settings, name).firstRows),
    selection: selection ? tokens(selection) : [],
    dev: tokens(dev),
  };
  await mkdir(dirname(taskFile(work, name)), { recursive: true });
  await writeFile(taskFile(work, name), JSON.stringify(task));
  process.stderr.write(`${name}: ${task.train.length} + ${task.selection.length} + ${task.dev.length} rows\n`);
}

/** The rows to train and to select on: those that a study of peft-bench takes. */
async function splitRows(
  { earlyStopping }: Settings,
  train: DataSet<LabelKind>,
): Promise<Partial<SelectionSplit<LabelKind>> & Pick<SelectionSplit<LabelKind>, 'train'>> {
  if (!earlyStopping) return { train };
  const { rows, selectionRows } = earlyStopping;
  const both = await sliceRows(train, rows + selectionRows, 0);
  return splitSelection(both, { share: Math.min(0.5, selectionRows / both.rows.length), seed: 0 });
}

/** Reads a GLUE task from the data folder, or one from an npm package. */
function readTask(name: string, folder: string): Promise<Task<LabelKind>> {
  const embedded = embeddedTasks.get(name);
  if (!embedded) return glueTask(name, folder, diskStorage());
  const require = createRequire(import.meta.url);
  return embedded.load(async (packageName, file) => {
    const root = dirname(require.resolve(`${packageName}/package.json`));
    return new Uint8Array(await readFile(join(root, file)));
  });
}
