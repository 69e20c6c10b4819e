//! What a word may be in a phrase, as far as a word alone tells.

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

/// A word's part in a phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// May end a phrase, and be one by itself.
    Noun,
    /// May end a phrase of several words: `tool kit`, 跑 + 鞋.
    Weak,
    /// May stand before another word.
    Before,
    /// Belongs to no phrase, and no phrase goes over it.
    Break,
}

/// Function words, verbs of advertisements, and what every shop says of everything.
const STOP: &str = " a about above across after against all along also always am among amp an and any are around arrival arrivals \
    as at be because been before behind being below beside besides best better between both br brand but buy by \
    can cheap choose cm contains could customer days deal deals did do does done down during each eight etc ever \
    every fashion fast feet few first five for four free from ft fully get gets give great guarantee had has \
    have he her here him his hot how i if in inch inches includes including inside into is it item items its \
    just keep keeps kg latest lb lbs let like lot lots made make makes many may me ml mm model more most much \
    must my nbsp nd near new nine no nor not now of off offer on once one only onto or original other our out \
    outside over own oz pc pcs per perfect piece pieces pk please product products qty quality quick quickly \
    quot rd really sale same seller sellers selling seven she ship shipping should six sku so some st such super \
    ten th than that the their them then there these they this those three through to too toward towards two \
    under up upgrade upgraded upon us use used uses using various very via w/ was we were what when where which \
    while who why will wish with within without works would xl xs xxl xxxl you your yours ";

/// Adjectives that no ending betrays; beside a noun they may be worth a phrase.
const ADJECTIVES: &str = " adult automatic basic beautiful big blank bright broad casual classic clear comfortable compact cool \
    creative cute daily dark deep delicate different digital double dry dual durable easy elastic electric \
    electronic elegant empty extra fancy female fine flat flexible formal fresh full funny gentle genuine giant \
    good half happy hard healthy heavy high huge indoor large lazy left lightweight little long loose \
    lovely low lower luxury magnetic male manual matte medium mini modern multi multicolor narrow natural nice \
    non novelty old open organic outdoor plain popular portable practical premium pretty pro professional pure \
    quiet rare raw real rich right romantic rustic safe sexy sharp shiny short simple single slim slow small \
    smart smooth soft solid special sporty stretchy strong stylish sweet tall thick thin tight tiny tough \
    traditional trendy ultra unique universal upper useful vertical vintage warm washable waterproof wet whole \
    wide wild wireless young ";

/// Nouns that say little alone.
const WEAK: &str = " accessories accessory color colors colour colours cut day design designs edition fit gift gifts height kind \
    kit kits length material materials pack packs pair pairs part parts pattern patterns print prints \
    replacement series set sets shape shapes side sides size sizes style styles thing things time tool top tops \
    type types use version width ";

/// Words in `-ing`, `-ed` and `-ly` that are nouns.
const NOUNS: &str = " ally anomaly assembly bearing bed bedding belly building bully butterfly ceiling clothing coating dolly \
    dragonfly drawing dressing duckling earring evening family fencing filling firefly fitting flooring fly \
    housing icing jelly jewelling king knitting landing led lighting lily lining molding monopoly morning \
    moulding packaging painting parking piercing polly quadruped railing red reply ring roofing rug seating \
    setting shelving shred sibling siding sing sled sling spring stocking string stuffing supply swing tally \
    thing training trolley tubing viewing wedding weed wing wiring writing ";

/// Chinese words of advertisements and orders.
const STOP_HAN: &str = " 包邮 正品 新款 特价 促销 清仓 爆款 热卖 现货 批发 厂家 直销 专柜 同款 网红 官方 旗舰店 旗舰 专卖店 专卖 优惠 \
    折扣 限时 秒杀 抢购 品牌 大牌 进口 国产 正版 原装 新品 上新 热销 推荐 规格 型号 货号 尺码 尺寸 均码 \
    大号 小号 中号 加大 加大码 颜色 多色 可选 款式 产品 商品 全新 经典 时尚 潮流 百搭 韩版 高档 高级 优质 品质 \
    质量 定制 定做 一件代发 代发 顺丰 快递 送货 赠品 买一送一 元 月 年 日 号 个 件 套 双 条 只 款 色 米 厘米 \
    毫米 公斤 克 升 毫升 寸 英寸 码 系列 简约 气质 新 大 小 ";

/// What things are called by at the end of their name, whatever part of speech a dictionary of sentences gives the word:
/// it takes 推车 and 垫 for verbs.
const THINGS: &str = "鞋靴衣裤裙衫帽袜包袋箱盒柜架垫套罩壳膜杯壶碗盘锅灯机器车床椅桌凳毯被枕巾表链环镜线盖板笔刀瓶桶刷贴绳带扇伞钟座夹钩筒篮";

/// The parts that lists give to words.
fn listed() -> &'static HashMap<&'static str, Part> {
    static LISTED: OnceLock<HashMap<&'static str, Part>> = OnceLock::new();
    LISTED.get_or_init(|| {
        let lists = [
            (NOUNS, Part::Noun),
            (WEAK, Part::Weak),
            (ADJECTIVES, Part::Before),
            (STOP, Part::Break),
            (STOP_HAN, Part::Break),
        ];
        let words = |(list, part): (&'static str, Part)| list.split_whitespace().map(move |word| (word, part));
        lists.into_iter().flat_map(words).collect()
    })
}

/// The part of an English word in lower case: by lists and endings, since titles are no sentences that a tagger could
/// read.
pub(super) fn english(word: &str) -> Part {
    let bare = word.strip_suffix("'s").unwrap_or(word);
    let letters = bare.chars().count();
    if letters < 2 || bare.contains(|c: char| c.is_numeric()) {
        return Part::Break;
    }
    match listed().get(bare) {
        Some(Part::Break) => return Part::Break,
        _ if bare != word => return Part::Before,
        Some(part) => return *part,
        None => {}
    }
    let ends = |ends: &[&str], least: usize| ends.iter().any(|end| bare.ends_with(end)) && letters >= least;
    let verb = ends(&["ing"], 5) || (ends(&["ed"], 4) && !ends(&["eed"], 0));
    let other =
        ends(&["ly"], 5) || ends(&["ible", "ful", "less", "ous"], 6) || (ends(&["able"], 8) && bare != "vegetable");
    // Compounds of a noun in -ing or -ed are nouns too: `drawstring`, `daybed`.
    let last = bare.rsplit('-').next().unwrap_or(bare);
    let compound = ends(&["ring", "string", "spring", "bed", "weed"], 6) && !ends(&["uring"], 0);
    let noun = compound || listed().get(last) == Some(&Part::Noun);
    if (verb || other) && !noun {
        Part::Before
    } else {
        Part::Noun
    }
}

/// A Chinese text with spaces where advertising was: a segmenter takes what is left of 男包邮 for a word (男包).
pub(super) fn without_advertising(text: &str) -> String {
    static ADVERTISING: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    let find = || {
        let several = STOP_HAN.split_whitespace().filter(|stop| stop.chars().nth(1).is_some());
        // A few dozen short words are never too many.
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(several)
            .ok()
    };
    let Some(found) = ADVERTISING.get_or_init(find) else {
        return text.to_owned();
    };
    let mut left = String::with_capacity(text.len());
    found.replace_all_with(text, &mut left, |_, _, left| {
        left.push(' ');
        true
    });
    left
}

/// The part of a Chinese word, by its tag in the dictionary and by what it ends in.
pub(super) fn chinese(word: &str, tag: &str) -> Part {
    if listed().get(word) == Some(&Part::Break) {
        return Part::Break;
    }
    let thing = word.ends_with(|c| THINGS.contains(c));
    let noun = thing || tag.starts_with('n') || matches!(tag, "vn" | "an" | "i" | "l");
    match tag.chars().next() {
        // A single character stands in too many other words to be found by itself.
        _ if noun && word.chars().count() == 1 => Part::Weak,
        _ if noun => Part::Noun,
        // Verbs, adjectives, states, distinctions (男), times (夏季), places, short forms, roots.
        Some('v' | 'a' | 'z' | 'b' | 't' | 's' | 'j' | 'g') => Part::Before,
        _ => Part::Break,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_parts() {
        for (part, words) in [
            (
                Part::Noun,
                "dress shoe t-shirt earring wedding bed red table cable clothing butterfly fabric seed drawstring glass",
            ),
            (
                Part::Before,
                "running quilted portable women's wireless eco-friendly soft adjustable sleeveless long",
            ),
            (Part::Break, "the new 2xl a 12cm with free sku-99 wh1000xm4 s"),
            (Part::Weak, "set kit style"),
        ] {
            for word in words.split(' ') {
                assert_eq!(english(word), part, "{word}");
            }
        }
    }
    #[test]
    fn chinese_parts() {
        for (word, tag, part) in [
            ("运动鞋", "n", Part::Noun),
            ("连衣裙", "nr", Part::Noun),
            ("推车", "v", Part::Noun),
            ("垫", "v", Part::Weak),
            ("鞋", "n", Part::Weak),
            ("男", "b", Part::Before),
            ("包邮", "v", Part::Break),
            ("新款", "n", Part::Break),
            ("的", "uj", Part::Break),
            ("三", "m", Part::Break),
        ] {
            assert_eq!(chinese(word, tag), part, "{word}");
        }
    }
}
