// A language model learns to write as some texts are written: its perplexity before and after, and what it makes of a prompt.
// #region write
import { attach, countParameters, evaluate, loadPretrained, savePretrained, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained, generateText } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { causalEvaluation, encodeLanguage, languageSet, trainingData } from '@peftjs/tasks';

/** How long, how fast and on what it learns. */
export interface Lessons {
  readonly texts: readonly string[];
  readonly epochs: number;
  readonly learningRate: number;
}

/** Fine-tunes a decoder, e.g. 'HuggingFaceTB/SmolLM2-135M', saves the adapter in PEFT's format and goes on with a prompt. */
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

  await savePretrained(peft, folder); // ranks whose gates closed are left out: an ordinary LoRA
  const again = await loadPretrained(model, folder, { methods: [sora] });
  const after = await evaluate(again, known, { executor });
  const text = await generateText(again, prompt, { executor, maxNewTokens: 32 });
  return { before, after, parameters: countParameters(again), text };
}
// #endregion write
