// The exported folder in transformers.js.
import { env, pipeline } from '@huggingface/transformers';

env.allowRemoteModels = false;
env.localModelPath = '.';
const classify = await pipeline('text-classification', 'web');
console.log(await classify(['The food was cold and so were the people.', 'I could not put it down.']));
