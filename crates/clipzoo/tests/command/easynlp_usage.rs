//! `easynlp`: what is refused, what is passed over, and help.

use super::easynlp::{EVALUATE, set_up, train};
use super::support::Folder;

#[test]
fn what_cannot_be_done_is_wrong_usage_and_says_what_can() {
    let folder = set_up();
    let cases = [
        (
            "--epochs=3",
            "--epochs: EasyNLP has no such flag; did you mean --epoch_num?",
        ),
        ("--learning_rate", "--learning_rate wants a value"),
        ("--mode=export", "--mode=train, --mode=evaluate or --mode=predict"),
        ("--app_name=text_match", "--app_name=clip"),
        ("--worker_gpu=2", "one worker (--worker_count=1) on one GPU"),
        ("--worker_count=2", "one worker (--worker_count=1) on one GPU"),
        ("--tables=odps://p/tables/t", "odps:// is not supported; use a TSV file"),
        (
            "--tables=oss://b/t.tsv,valid.tsv",
            "oss:// is not supported; use a TSV file",
        ),
        ("--tables=train.tar", "tar files are not supported"),
        ("--tables=", "--tables is missing"),
        (
            "--checkpoint_dir=oss://b/out",
            "oss:// is not supported; use a directory",
        ),
        (
            "--resume_from_checkpoint=oss://b/out",
            "oss:// is not supported; use a --checkpoint_dir",
        ),
        (
            "--user_defined_parameters=pretrain_model_name_or_path=oss://b/m",
            "or hf:owner/name",
        ),
        (
            "--user_defined_parameters=pretrain_model_name_or_path=alibaba-pai/pai-clip-commercial-base-en",
            "EasyNLP's registry of names is not asked; download and unpack the model and give its directory, as \
             pretrain_model_name_or_path=./alibaba-pai/pai-clip-commercial-base-en, or a name on the hub, as hf:owner/name",
        ),
        (
            "--user_defined_parameters=do_eval=True",
            "names no pretrain_model_name_or_path",
        ),
        (
            "--input_schema=text:str:1",
            "--input_schema has no column `image`; name one of text",
        ),
        ("--input_schema=text", "write it like text:str:1,image:str:1"),
        (
            "--first_sequence=title",
            "--first_sequence: --input_schema has no column `title`",
        ),
        ("--optimizer_type=Lion", "use AdamW, Adam, BertAdam or SGD"),
        ("--learning_rate=fast", "--learning_rate=fast: this is no number"),
        ("--weight_decay=-1", "--weight_decay=-1: this is no number from 0"),
        ("--warmup_proportion=2", "use a number from 0 to 1"),
        ("--epoch_num=0", "there is nothing to do"),
        (
            "--micro_batch_size=0",
            "--micro_batch_size=0: this is no whole number from 1",
        ),
        ("--random_seed=-1", "--random_seed=-1: this is no whole number from 0"),
        (
            "--mode=predict --outputs=a.tsv",
            "write --output_schema=text_feat or image_feat",
        ),
        (
            "--mode=predict --outputs=a.tsv --output_schema=text_feat,image_feat",
            "run it for one and for the other",
        ),
        (
            "--mode=predict --outputs=a.tsv --output_schema=logits",
            "there is no such output",
        ),
        (
            "--mode=predict --checkpoint_dir=model --output_schema=text_feat",
            "--outputs is missing",
        ),
        (
            "--mode=predict --checkpoint_dir=model --output_schema=text_feat --outputs=oss://a",
            "use a file on this machine",
        ),
    ];
    for (words, wanted) in cases {
        let message = train(&folder, "out", words).misused();
        assert!(message.contains(wanted), "{words}: {message}");
    }
    assert!(!folder.path("out").exists());
    // What is there already is not written over.
    folder.write("used/config.json", "{}");
    let message = train(&folder, "used", "").misused();
    assert!(message.contains("used/config.json is there already"), "{message}");
    assert_eq!(folder.names("used"), ["config.json"]);
}

#[test]
fn flags_without_meaning_are_named_and_change_nothing() {
    let folder = set_up();
    let line = format!("easynlp {EVALUATE} --checkpoint_path model");
    let vain = "--buckets=b --modelzoo_base_dir=d --label_name=l --label_enumerate_values=0,1 --distributed_backend=gloo \
                --predict_slice_size=1 --predict_queue_size=2 --predict_thread_num 3 --learning_rate=1";
    let (without, with) = (folder.run(&line), folder.run(&format!("{line} {vain}")));
    for name in [
        "--buckets, --modelzoo_base_dir, --label_name, --label_enumerate_values, --distributed_backend, \
         --predict_slice_size, --predict_queue_size, --predict_thread_num",
        "without meaning in this mode, and passed over: --learning_rate",
    ] {
        assert!(with.stderr.contains(name), "{}", with.stderr);
    }
    assert!(!without.stderr.contains("passed over"), "{}", without.stderr);
    assert_eq!(with.ok().lines().next(), without.ok().lines().next());
}

#[test]
fn help_is_given_wherever_it_is_asked_for() {
    let folder = Folder::new();
    let help = folder.run("easynlp --help").ok();
    assert!(help.contains("--user_defined_parameters="), "{help}");
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    assert_eq!(folder.run("easynlp --mode=train --help").ok().trim(), help.trim());
    let message = folder.run("easynlp").misused();
    assert!(message.contains("--tables is missing"), "{message}");
}
