/**
 * Trains a chat model on preferences by DPO in several seeds, for docs/guides/preferences.md: 400 pairs of
 * examples/wordnet.ts, judged on the 200 of its other file. Prints the scores of the base and of each seed as JSON
 * lines, and samples.
 *
 *   cd examples && ROWS=1600 npx tsx wordnet.ts
 *   npx tsx --conditions @peftjs/source ../tools/studies/preferences.ts MODEL [SEEDS=1,2,3] [PAIRS=400]
 *
 * MODEL is SmolLM2-135M-Instruct: a folder, a hub id or a GGUF file.
 */
import { attach, diskStorage, train, withInputs, type PeftModel } from '@peftjs/core';
import { dpo } from '@peftjs/core/losses';
import { evaluationOutputs } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, generateChat, type PretrainedModel } from '@peftjs/models';
import {
  encodePreferences,
  preferenceEvaluation,
  readLanguageTask,
  sliceCausal,
  trainingData,
  type LanguageSet,
} from '@peftjs/tasks';

const [name = 'HuggingFaceTB/SmolLM2-135M-Instruct', seeds = '1,2,3', count = '400'] = process.argv.slice(2);
const WORDS = ['heron', 'kettle', 'willow'];

const executor = compiled();
const model = await fromPretrained(name, { task: 'causal-lm' });
const task = await readLanguageTask({
  train: 'data/preferences-train.jsonl',
  dev: 'data/preferences-dev.jsonl',
  storage: diskStorage(),
});
const encode = (set: LanguageSet) => encodePreferences(set, model.tokenizer, { maxTokens: 96 });
const pairs = sliceCausal(encode(task.train), Number(count), 1);
const heldOut = preferenceEvaluation(encode(task.dev), { batchSize: 8 });

/** Scores without and with the reference, and the accuracy of log p of the whole answer, which favours short ones. */
async function judge(of: PeftModel | PretrainedModel, reference?: readonly Float32Array[]) {
  const outputs = await evaluationOutputs(of, heldOut, { executor });
  const likelier = outputs.filter(([chosen = 0, , rejected = 0]) => chosen < rejected).length / outputs.length;
  const { rewardAccuracy, rewardMargin } = (reference && heldOut.withReference?.(reference).score(outputs)) ?? {};
  return { outputs, scores: { ...heldOut.score(outputs), likelier, dpo: { rewardAccuracy, rewardMargin } } };
}

async function samples(of: PeftModel | PretrainedModel): Promise<string[]> {
  const answers: string[] = [];
  for (const word of WORDS) {
    const messages = [
      { role: 'system', content: 'You explain words.' },
      { role: 'user', content: `What does "${word}" mean?` },
    ] as const;
    answers.push((await generateChat(of, messages, { executor, maxNewTokens: 40 })).content);
  }
  return answers;
}

function print(who: string, facts: object): void {
  console.log(JSON.stringify({ who, ...facts }));
}

const base = await judge(model);
// The reference of the training rows, for all seeds.
const own = await evaluationOutputs(model, preferenceEvaluation(pairs, { batchSize: 8 }), { executor });
const referenceLogps = own.map(([chosen = NaN, , rejected = NaN]) => Float32Array.of(-chosen, -rejected));
print('base', {
  pairs: pairs.rows.length,
  heldOut: base.outputs.length,
  ...base.scores,
  samples: await samples(model),
});
for (const seed of seeds.split(',').map(Number)) {
  const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed });
  await train(peft, withInputs(trainingData(pairs, { batchSize: 8, seed }), { referenceLogps }), {
    executor,
    loss: dpo(),
    epochs: 1,
    learningRate: 5e-4,
    onStep: ({ step, totalSteps, loss }) => console.error(`${seed}: ${step}/${totalSteps} loss ${loss.toFixed(3)}`),
  });
  const { scores } = await judge(peft, base.outputs);
  print(`seed ${seed}`, { ...scores, samples: await samples(peft) });
}
