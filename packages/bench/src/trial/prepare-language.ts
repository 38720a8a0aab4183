import type { PretrainedModel } from '@peftjs/models';
import {
  areTexts,
  causalEvaluation,
  chatML,
  encodeLanguage,
  sliceCausal,
  splitCausal,
  trainingData,
  type CausalData,
} from '@peftjs/tasks';
import type { Trial, TrialProtocol } from '../plan/trial.js';
import type { LoadedLanguageTask } from '../registry/tasks.js';
import { lossesOf, type EncodedTask } from './losses.js';
import type { LoadNetwork, TrialData } from './prepare.js';

/** The language model, and a task's rows in tokens. */
export async function languageData(
  { protocol }: Trial,
  task: LoadedLanguageTask,
  load: LoadNetwork,
): Promise<TrialData> {
  const model = await load('causal-lm');
  const encoded = encodeLanguageTask(task, model, protocol);
  const { train, selection, dev } = encoded;
  const { batchSize, evaluationBatchSize } = protocol;
  const padding = { padId: model.tokenizer.padTokenId };
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
    losses: lossesOf(encoded),
  };
}

/**
 * A language task as rows of tokens, some of the training rows set aside to select a checkpoint on.
 * @throws ConfigError for a tokenizer without end-of-text token, DataError when there is too little to learn from.
 */
export function encodeLanguageTask(
  task: LoadedLanguageTask,
  { tokenizer, maxTokens: most }: Pick<PretrainedModel, 'tokenizer' | 'maxTokens'>,
  { dataSeed: seed, maxTokens, selectionShare: share, ...protocol }: TrialProtocol,
): EncodedTask<CausalData> {
  const encode = (name: 'train' | 'dev', count: number | null): CausalData => {
    const set = { ...task[name], name: `${task.name}/${name}` };
    const template = tokenizer.chatTemplate?.render ?? chatML; // which of the two is said when a run is planned
    const rows = encodeLanguage(set, tokenizer, { maxTokens: Math.min(maxTokens, most), template });
    const whole = areTexts(set) ? { ...rows, leftOut: 0 } : rows; // the last token of packed texts is no loss
    return count === null ? whole : sliceCausal(whole, count, seed);
  };
  const split = splitCausal(encode('train', protocol.rows), { share, seed });
  return { ...split, dev: encode('dev', protocol.devRows), alsoReported: {} };
}
