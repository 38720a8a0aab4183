import type { PretrainedModel } from '@peftjs/models';
import type { DataSet, LanguageSet } from '@peftjs/tasks';
import type { LoadedTask } from '../registry/tasks.js';

/** What the content of a task's rows is told by, and for a language model what is put around them. */
export function dataFingerprint(task: LoadedTask, model: PretrainedModel): string {
  return [...dataSets(task).map(({ fingerprint }) => fingerprint), ...marksOf(task, model)].join(' ');
}

/** Every set of rows that a task's numbers come from. */
function dataSets(task: LoadedTask): (DataSet | LanguageSet)[] {
  if (task.kind === 'causal-lm') return [task.train, task.dev];
  const { train, dev, selection, alsoReported = {} } = task;
  return [train, dev, ...(selection ? [selection] : []), ...Object.values(alsoReported)];
}

/** What is put around the texts of a language task: no part of the model's fingerprint, but of the rows. */
function marksOf(
  { kind }: LoadedTask,
  { tokenizer: { eosTokenId, bosTokenId, addBosToken } }: PretrainedModel,
): string[] {
  return kind === 'causal-lm' ? [`${addBosToken ? String(bosTokenId) : ''}..${String(eosTokenId)}`] : [];
}
