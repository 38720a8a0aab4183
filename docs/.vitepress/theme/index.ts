import { h } from 'vue';
import type { Theme } from 'vitepress';
import DefaultTheme from 'vitepress/theme';
import 'katex/dist/katex.min.css';
import idea from '../../images/start.svg';
import './style.css';

const IDEA =
  'A frozen weight matrix and an adapter of eight narrow ranks, each with a gate; training has pruned five of them';

export default {
  extends: DefaultTheme,
  Layout: () => h(DefaultTheme.Layout, null, { 'home-hero-image': () => h('img', { src: idea, alt: IDEA }) }),
} satisfies Theme;
