import * as tf from '@tensorflow/tfjs';
import { hostTensor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
const ex = compiled({ threads: 2 });
for (const [m,k,n] of [[1024,384,1536],[1024,384,384],[1024,1536,384],[512,768,3072]]) for (const c of [false,true]) {
  const w = Float32Array.from({length:k*n},()=>Math.random());
  const f = await ex.compile(({a,b})=>({c: tf.matMul(a as any,c ? tf.tensor2d(w,[k,n]) : b as any)}), {a:{dtype:'float32',shape:[m,k]},b:{dtype:'float32',shape:[k,n]}} as any);
  const up=(s:number[])=>ex.upload(hostTensor(Float32Array.from({length:s[0]*s[1]},()=>Math.random()),s));
  const a=up([m,k]),b=up([k,n]); let best=1e9;
  for(let i=0;i<150;i++){const s=performance.now();const o=await f.run({a,b});best=Math.min(best,performance.now()-s);ex.release(o.c);}
  console.log(m,k,n,c?'constant':'input',(2*m*k*n/best/1e6).toFixed(0));
}
