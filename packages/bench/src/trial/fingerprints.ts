import { createHash } from 'node:crypto';
import type { PretrainedModel } from '@peftjs/models';
import { areChats, type DataSet, type LanguageSet } from '@peftjs/tasks';
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
function marksOf(task: LoadedTask, { tokenizer }: PretrainedModel): string[] {
  if (task.kind !== 'causal-lm') return [];
  const { eosTokenId, bosTokenId, addBosToken, chatTemplate } = tokenizer;
  const around = `${addBosToken ? String(bosTokenId) : ''}..${String(eosTokenId)}`;
  if (!chatTemplate || ![task.train, task.dev].some(areChats)) return [around];
  return [around, createHash('sha256').update(chatTemplate.source).digest('hex')];
}
