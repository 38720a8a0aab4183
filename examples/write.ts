// Fine-tunes a language model on texts, compares its perplexity before and after, and continues a prompt.
// #region write
import { attach, countParameters, evaluate, loadPretrained, savePretrained, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained, generateText } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { causalEvaluation, encodeLanguage, languageSet, trainingData } from '@peftjs/tasks';

/** The training texts and settings. */
export interface Lessons {
  readonly texts: readonly string[];
  readonly epochs: number;
  readonly learningRate: number;
}

/** Fine-tunes a decoder, e.g. 'HuggingFaceTB/SmolLM2-135M', saves the adapter in PEFT's format and continues a prompt. */
export async function teachToWrite(source: string, lessons: Lessons, prompt: string, folder: string) {
  const executor = compiled();
  const model = await fromPretrained(source, { task: 'causal-lm' });
  const { texts, ...course } = lessons;
  const set = await languageSet(
    'lessons',
    texts.map((text) => ({ text })),
  );
  const rows = encodeLanguage(set, model.tokenizer, { maxTokens: Math.min(256, model.maxTokens) });
  const known = causalEvaluation(rows, { batchSize: 8 });
  const before = await evaluate(model, known, { executor });

  const peft = attach(model, sora({ r: 16, targetModules: 'all-linear', sparseLambda: 1 }), { seed: 1 });
  await train(peft, trainingData(rows, { batchSize: 8, seed: 1 }), { executor, ...course });

  await savePretrained(peft, folder); // an ordinary LoRA, without the pruned ranks
  const again = await loadPretrained(model, folder, { methods: [sora] });
  const after = await evaluate(again, known, { executor });
  const text = await generateText(again, prompt, { executor, maxNewTokens: 32 });
  return { before, after, parameters: countParameters(again), text };
}
// #endregion write
