import { warnOnce } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import {
  causalEvaluation,
  chooseBuckets,
  encodeLanguage,
  sliceCausal,
  splitCausal,
  trainingData,
  type CausalData,
  type CausalSplit,
} from '@peftjs/tasks';
import type { StudyProtocol } from '../plan/study.js';
import type { Trial } from '../plan/trial.js';
import type { LoadedLanguageTask } from '../registry/tasks.js';
import type { LoadNetwork, TrialData } from './prepare.js';

/** The language model, and a task's rows in tokens. */
export async function languageData(
  { protocol }: Trial,
  task: LoadedLanguageTask,
  load: LoadNetwork,
): Promise<TrialData> {
  const model = await load('causal-lm');
  const { train, selection, dev } = encodeLanguageTask(task, model, protocol);
  const { batchSize, evaluationBatchSize } = protocol;
  const buckets = chooseBuckets([train, selection, dev], { batchSize });
  const padding = { buckets, padId: model.tokenizer.padTokenId };
  const judge = (rows: CausalData) => causalEvaluation(rows, { ...padding, batchSize: evaluationBatchSize });
  return {
    model,
    task,
    trainingData: (seed) => trainingData(train, { ...padding, batchSize, seed }),
    selection: judge(selection),
    dev: judge(dev),
    trainSubset: (count) => Promise.resolve(judge(sliceCausal(train, count, protocol.dataSeed))),
    alsoReported: {},
    rows: { train: train.rows.length, selection: selection.rows.length, dev: dev.rows.length },
  };
}

/**
 * A language task as rows of tokens, some of the training rows set aside to select a checkpoint on. Says once what is lost.
 * @throws ConfigError for a tokenizer without end-of-text token, DataError when there is too little to learn from.
 */
export function encodeLanguageTask(
  task: LoadedLanguageTask,
  { tokenizer, maxTokens: most }: Pick<PretrainedModel, 'tokenizer' | 'maxTokens'>,
  { dataSeed: seed, maxTokens, selectionShare: share, ...protocol }: StudyProtocol,
): CausalSplit & { readonly dev: CausalData } {
  const encode = (name: 'train' | 'dev', count: number | null): CausalData => {
    const set = { ...task[name], name: `${task.name}/${name}` };
    const rows = encodeLanguage(set, tokenizer, { maxTokens: Math.min(maxTokens, most) });
    warnOfLosses(rows, most);
    return count === null ? rows : sliceCausal(rows, count, seed);
  };
  return { ...splitCausal(encode('train', protocol.rows), { share, seed }), dev: encode('dev', protocol.devRows) };
}

function warnOfLosses({ name, maxTokens, truncated, leftOut, rows }: CausalData, most: number): void {
  if (truncated === 0) return; // the last token of packed texts is no loss
  const help = maxTokens < most ? '; --max-tokens allows more' : '';
  const all = rows.length + leftOut;
  const without = leftOut === 0 ? '' : `, and ${leftOut} of them with nothing left to learn are left out`;
  warnOnce(
    `${name}: ${truncated} of ${all} rows are longer than ${maxTokens} tokens and lose their end${without}${help}`,
  );
}
